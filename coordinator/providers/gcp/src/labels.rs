//! By what VMs are recognised: whose they are, and for what they were bought. A label's value may have 63 characters of a
//! few kinds only, so what doesn't fit is replaced by what of it does, and a digest.

use coordinator_core::{InstanceId, PoolName};
use coordinator_provider::LaunchRequest;
use std::collections::HashMap;

pub(crate) const CLUSTER: &str = "trainctl-cluster";
pub(crate) const INSTANCE: &str = "trainctl-instance";
const POOL: &str = "trainctl-pool";
const LENGTH_MAX: usize = 63;
/// Hex digits of a digest that stand for what was left out.
const DIGEST: usize = 16;

/// All labels of a VM, put on it when it is made: one without them could not be found again.
pub(crate) fn of(cluster: &str, request: &LaunchRequest, pool: &PoolName) -> Vec<(String, String)> {
    let LaunchRequest { instance, worker, job, generation, .. } = request;
    let labels = [
        (CLUSTER, cluster),
        (INSTANCE, &instance.0),
        ("trainctl-worker", &worker.0),
        ("trainctl-job", &job.0),
        ("trainctl-generation", &generation.to_string()),
        (POOL, &pool.0),
    ];
    labels.into_iter().map(|(key, text)| (key.to_owned(), value(text))).collect()
}

/// Which instance a VM of this cluster was bought as; `None`: it is not this cluster's.
pub(crate) fn instance(cluster: &str, labels: &HashMap<String, String>) -> Option<InstanceId> {
    let ours = labels.get(CLUSTER) == Some(&value(cluster));
    labels.get(INSTANCE).filter(|instance| ours && !instance.is_empty()).map(|instance| InstanceId(instance.clone()))
}

/// Whether a VM was bought from this pool.
pub(crate) fn is_of(pool: &PoolName, labels: &HashMap<String, String>) -> bool {
    labels.get(POOL) == Some(&value(&pool.0))
}

/// Text as a label's value: itself if it can be.
pub(crate) fn value(text: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.len() <= LENGTH_MAX && text.chars().all(fits) {
        return text.to_owned();
    }
    let kept = text.chars().map(|c| c.to_ascii_lowercase()).map(|c| if fits(c) { c } else { '-' });
    let kept: String = kept.take(LENGTH_MAX - DIGEST - 1).collect();
    format!("{kept}-{}", &blake3::hash(text.as_bytes()).to_hex()[..DIGEST])
}

/// The VM's name: one for each instance, so that a second one can't be made.
pub(crate) fn vm_name(cluster: &str, instance: &InstanceId) -> String {
    let name = value(&format!("trainctl-{cluster}-{instance}")).replace('_', "-");
    name.trim_end_matches('-').to_owned()
}

/// What makes asking twice buy one: a UUID (version 5's layout) of the cluster, the instance and the offer.
pub(crate) fn request_id(cluster: &str, request: &LaunchRequest) -> String {
    let text = [cluster, &request.instance.0, &request.pool.0].map(|part| format!("{}:{part}", part.len())).concat();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_core::{Generation, JobId, WorkerId};

    fn request(instance: &str, pool: &str, job: &str) -> LaunchRequest {
        LaunchRequest {
            instance: InstanceId::from(instance),
            worker: WorkerId::from("w1"),
            pool: PoolName::from(pool),
            job: JobId::from(job),
            generation: Generation(3),
        }
    }

    #[test]
    fn any_text_becomes_a_value_and_stays_apart_from_others() {
        assert_eq!(value("digits_2-a"), "digits_2-a");
        assert_eq!(value(""), "");
        let long = "x".repeat(64);
        for (one, other) in [("Digits", "digits"), ("a/b", "a-b"), ("ä", "-"), (long.as_str(), &long[1..])] {
            let (one, other) = (value(one), value(other));
            assert!(one != other && one.len() <= 63 && other.len() <= 63, "{one} {other}");
            assert!(one.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')), "{one}");
        }
    }

    #[test]
    fn a_vm_tells_whose_it_is() {
        let labels = of("C1", &request("i7", "gcp/us-central1-a", "My Job"), &PoolName::from("gcp"));
        assert!(labels.iter().all(|(key, value)| key.len() <= 63 && value.len() <= 63));
        let labels: HashMap<_, _> = labels.into_iter().collect();
        assert_eq!(instance("C1", &labels), Some(InstanceId::from("i7")));
        assert_eq!(instance("c1", &labels), None);
        assert_eq!(instance("C1", &HashMap::new()), None);
        assert!(is_of(&PoolName::from("gcp"), &labels) && !is_of(&PoolName::from("gcp2"), &labels));
    }

    #[test]
    fn names_are_of_the_form_that_the_api_takes() {
        assert_eq!(vm_name("c0123456789abcdef", &InstanceId::from("i17")), "trainctl-c0123456789abcdef-i17");
        for cluster in ["Own_Cluster", &"x".repeat(80)] {
            let name = vm_name(cluster, &InstanceId::from("i1"));
            assert!(name.len() <= 63 && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')), "{name}");
            assert!(name.starts_with("trainctl-") && !name.ends_with('-'), "{name}");
        }
    }

    #[test]
    fn the_request_id_is_of_cluster_instance_and_offer() {
        let id = |cluster, instance, pool| request_id(cluster, &request(instance, pool, "j"));
        let base = id("c", "i1", "gcp/us-central1-a");
        assert_eq!(base, id("c", "i1", "gcp/us-central1-a"));
        assert_eq!(base.len(), 36);
        assert_eq!(base.as_bytes()[14], b'5');
        assert!(matches!(base.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        for other in [
            id("d", "i1", "gcp/us-central1-a"),
            id("c", "i2", "gcp/us-central1-a"),
            id("c", "i1", "gcp/us-central1-a/on-demand"),
            id("ci", "1", "gcp/us-central1-a"),
        ] {
            assert_ne!(base, other);
        }
    }
}
