//! A folder as a store.

mod conformance;

#[tokio::test]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let (store, root) = trainctl_objects::open(&trainctl_objects::file_uri(folder.path())).unwrap();
    conformance::check(store, root).await;
}
