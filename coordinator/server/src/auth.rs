//! Who may call. People carry the home's token; a worker carries one of its own, made from that token for its instance
//! alone, so that a worker can neither act as another nor as a person.

use blake3::Hash;
use coordinator_core::InstanceId;
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
        assert!(keys.is_user("secret") && !keys.is_user("Secret") && !keys.is_user(&token));
    }
}
