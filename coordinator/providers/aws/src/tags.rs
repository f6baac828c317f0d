//! The tags by which machines are recognised: whose they are, and for what they were bought.

use coordinator_core::{InstanceId, PoolName};
use coordinator_provider::LaunchRequest;

pub(crate) const CLUSTER: &str = "trainctl:cluster";
pub(crate) const INSTANCE: &str = "trainctl:instance";
const POOL: &str = "trainctl:pool";

/// All tags of a machine, put on it when it is made: one without them could not be found again.
pub(crate) fn of(cluster: &str, request: &LaunchRequest) -> Vec<(String, String)> {
    let LaunchRequest { instance, worker, pool, job, generation } = request;
    [
        ("Name", format!("trainctl {cluster} {instance}")),
        (CLUSTER, cluster.to_owned()),
        (INSTANCE, instance.0.clone()),
        ("trainctl:worker", worker.0.clone()),
        ("trainctl:job", job.0.clone()),
        ("trainctl:generation", generation.to_string()),
        (POOL, pool.0.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether the machine is this cluster's.
pub(crate) fn is_ours(cluster: &str, tags: &[(String, String)]) -> bool {
    value(tags, CLUSTER) == Some(cluster)
}

/// Which instance it was bought as.
pub(crate) fn instance(tags: &[(String, String)]) -> Option<InstanceId> {
    value(tags, INSTANCE).map(InstanceId::from)
}

/// From which offer.
pub(crate) fn pool(tags: &[(String, String)]) -> Option<PoolName> {
    value(tags, POOL).map(PoolName::from)
}

fn value<'t>(tags: &'t [(String, String)], key: &str) -> Option<&'t str> {
    tags.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
}

/// What makes asking twice buy one: of the cluster, the instance and the offer, which states the market.
pub(crate) fn token(cluster: &str, request: &LaunchRequest) -> String {
    let text = [cluster, &request.instance.0, &request.pool.0].map(|part| format!("{}:{part}", part.len())).concat();
    blake3::hash(text.as_bytes()).to_hex()[..48].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_core::{Generation, JobId, WorkerId};

    fn request(instance: &str, pool: &str) -> LaunchRequest {
        LaunchRequest {
            instance: InstanceId::from(instance),
            worker: WorkerId::from("w1"),
            pool: PoolName::from(pool),
            job: JobId::from("digits"),
            generation: Generation(3),
        }
    }

    #[test]
    fn the_token_is_of_cluster_instance_and_offer() {
        let token_of = |cluster, instance, pool| token(cluster, &request(instance, pool));
        let base = token_of("c", "i1", "aws/us-east-1a");
        assert!(base.len() <= 64);
        assert_eq!(base, token_of("c", "i1", "aws/us-east-1a"));
        for other in [
            token_of("d", "i1", "aws/us-east-1a"),
            token_of("c", "i2", "aws/us-east-1a"),
            token_of("c", "i1", "aws/us-east-1a/on-demand"),
            token_of("ci", "1", "aws/us-east-1a"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_machine_tells_whose_it_is() {
        let tags = of("c", &request("i1", "aws/us-east-1a"));
        assert!(is_ours("c", &tags) && !is_ours("d", &tags) && !is_ours("c", &[]));
        assert_eq!(instance(&tags), Some(InstanceId::from("i1")));
        assert_eq!(pool(&tags), Some(PoolName::from("aws/us-east-1a")));
    }
}
