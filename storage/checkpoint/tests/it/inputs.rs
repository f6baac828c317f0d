//! What a run was made from stays beside it.

use crate::support::{folder, names, save, small};
use trainctl_checkpoint::RunInput;

#[tokio::test]
async fn what_is_kept_comes_back_and_outlives_pruning() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    assert_eq!(folder.read_input(RunInput::Module).await.unwrap(), None);
    // More than one request of an upload.
    let module: Vec<u8> = (0..20_000_003_u32).map(|at| (at % 251) as u8).collect();
    folder.write_input(RunInput::Module, &module).await.unwrap();
    folder.write_input(RunInput::DataManifest, b"{}\n").await.unwrap();
    folder.write_input(RunInput::DataManifest, b"{}\n").await.unwrap();
    let (tensors, len) = small();
    for step in [10, 20, 30] {
        save(&folder, step, 2, &tensors, len).await;
    }
    folder.prune(1).await.unwrap();
    assert_eq!(folder.steps().await.unwrap(), [30]);
    assert!(folder.read_input(RunInput::Module).await.unwrap().unwrap() == module);
    assert_eq!(folder.read_input(RunInput::DataManifest).await.unwrap().unwrap(), "{}\n");
    assert_eq!(names(&root.path().join(folder.job())), ["checkpoints", "data.manifest.json", "module.pt"]);
}
