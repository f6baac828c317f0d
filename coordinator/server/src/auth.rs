//! Who may call. People carry the home's token; a worker carries one of its own, made from that token for its instance
//! alone, so that a worker can neither act as another nor as a person.

use blake3::Hash;
use coordinator_core::{InstanceId, PoolName, Timestamp};
use std::time::SystemTime;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Makes and checks tokens.
#[derive(Clone)]
pub(crate) struct Keys {
    /// Only the hash is kept: comparing hashes takes the same time wherever they differ.
    user: Hash,
}

impl Keys {
    pub(crate) fn new(user_token: &str) -> Self {
        Self { user: blake3::hash(user_token.as_bytes()) }
    }

    fn mac(&self, instance: &str) -> Hash {
        blake3::keyed_hash(self.user.as_bytes(), instance.as_bytes())
    }

    /// The token of the worker on this instance.
    pub(crate) fn worker_token(&self, instance: &InstanceId) -> String {
        format!("worker:{instance}:{}", self.mac(&instance.0).to_hex())
    }

    /// Lets whoever has it join the pool with a machine. `expires` 0: for good.
    pub(crate) fn join_token(&self, pool: &PoolName, expires: Timestamp) -> String {
        format!("join:{pool}:{}:{}", expires.0, self.join_mac(&pool.0, expires.0).to_hex())
    }

    /// Another key than that of workers: neither token can be made from the other.
    fn join_mac(&self, pool: &str, expires_ms: i64) -> Hash {
        let key = blake3::derive_key("trainctl v1 tokens by which machines join a pool", self.user.as_bytes());
        blake3::keyed_hash(&key, format!("{expires_ms}:{pool}").as_bytes())
    }

    fn pool_of(&self, token: &str, now_ms: i64) -> Result<PoolName, Status> {
        let parts = token.strip_prefix("join:").and_then(|rest| rest.rsplit_once(':'));
        let parts = parts.and_then(|(rest, mac)| Some((rest.rsplit_once(':')?, Hash::from_hex(mac).ok()?)));
        let Some(((pool, expires), mac)) = parts else { return Err(refused("a pool's join token")) };
        let expires_ms: i64 = expires.parse().map_err(|_| refused("a pool's join token"))?;
        if mac != self.join_mac(pool, expires_ms) {
            return Err(refused("a pool's join token"));
        }
        if expires_ms != 0 && expires_ms < now_ms {
            return Err(Status::unauthenticated(format!(
                "authorization: expected a join token that is valid, found one that has expired\n\
                 hint: make another with `trainctl pool token {pool}`"
            )));
        }
        Ok(PoolName::from(pool))
    }

    fn is_user(&self, token: &str) -> bool {
        blake3::hash(token.as_bytes()) == self.user
    }

    fn instance_of(&self, token: &str) -> Option<InstanceId> {
        let (instance, mac) = token.strip_prefix("worker:")?.rsplit_once(':')?;
        let given = Hash::from_hex(mac).ok()?;
        // `Hash` compares in constant time.
        (given == self.mac(instance)).then(|| InstanceId::from(instance))
    }
}

/// Lets people's calls through.
#[derive(Clone)]
pub(crate) struct UserOnly(pub(crate) Keys);

impl Interceptor for UserOnly {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let token = bearer(&request)?;
        if self.0.is_user(token) { Ok(request) } else { Err(refused("the coordinator's token")) }
    }
}

/// Lets workers' calls through and notes, as an extension, which instance the caller proved to be on.
#[derive(Clone)]
pub(crate) struct WorkersOnly(pub(crate) Keys);

impl Interceptor for WorkersOnly {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let instance = self.0.instance_of(bearer(&request)?).ok_or_else(|| refused("a worker's token"))?;
        request.extensions_mut().insert(instance);
        Ok(request)
    }
}

/// Lets machines' calls through and notes, as an extension, which pool the caller may join.
#[derive(Clone)]
pub(crate) struct MachinesOnly(pub(crate) Keys);

impl Interceptor for MachinesOnly {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let pool = self.0.pool_of(bearer(&request)?, now_ms)?;
        request.extensions_mut().insert(pool);
        Ok(request)
    }
}

fn bearer(request: &Request<()>) -> Result<&str, Status> {
    let value = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
        Status::unauthenticated(
            "authorization: expected \"Bearer TOKEN\", found none\n\
             hint: the token is in the file token of the coordinator's home; name it with --token-file",
        )
    })
}

fn refused(expected: &str) -> Status {
    Status::unauthenticated(format!(
        "authorization: expected {expected}, found another one\n\
         hint: the token is in the file token of the coordinator's home; name it with --token-file"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_for_whom_they_were_made() {
        let keys = Keys::new("secret");
        let token = keys.worker_token(&InstanceId::from("i7"));
        let mac = blake3::keyed_hash(blake3::hash(b"secret").as_bytes(), b"i7").to_hex();
        assert_eq!(token, format!("worker:i7:{mac}"));
        assert_eq!(keys.instance_of(&token), Some(InstanceId::from("i7")));
        for wrong in [token.replace("i7", "i8"), token.replace("worker:", ""), "worker:i7:".to_owned(), String::new()] {
            assert_eq!(keys.instance_of(&wrong), None, "{wrong}");
        }
        assert_eq!(Keys::new("other").instance_of(&token), None);
        let join = keys.join_token(&PoolName::from("lab:7"), Timestamp(5_000));
        assert_eq!(keys.pool_of(&join, 4_000).ok(), Some(PoolName::from("lab:7")));
        let late = keys.pool_of(&join, 6_000).expect_err("expired");
        assert!(late.message().contains("hint: make another with `trainctl pool token lab:7`"), "{late}");
        assert!(keys.pool_of(&keys.join_token(&PoolName::from("lab"), Timestamp(0)), 6_000).is_ok());
        for wrong in [join.replace("5000", "9000"), join.replace("lab", "bal"), token.clone(), String::new()] {
            assert!(keys.pool_of(&wrong, 4_000).is_err(), "{wrong}");
        }
        assert_eq!(keys.instance_of(&join.replace("join:", "worker:")), None);
        assert!(keys.is_user("secret") && !keys.is_user("Secret") && !keys.is_user(&token));
    }
}
