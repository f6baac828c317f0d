//! What makes a process a worker of one job to its peers: a secret that all of them share, and an authority that signs
//! for each. Made when the job is submitted, and kept with it, so that those who join later, or after a restart, are of
//! the same job.

use crate::records::{self, Secret};
use coordinator_certificates::{Authority, CertificateError};
use coordinator_core::{JobId, Record};

/// A job's secret and authority.
pub(crate) struct JobKeys {
    pub(crate) secret: Secret,
    pub(crate) authority: Authority,
}

impl JobKeys {
    /// New ones.
    pub(crate) fn new(job: &JobId) -> Result<Self, CertificateError> {
        Ok(Self { secret: rand::random(), authority: Authority::new(&job.0)? })
    }

    /// What to write down about them.
    pub(crate) fn records(&self, job: &JobId) -> [Record; 2] {
        [records::secret(job, &self.secret), records::authority(job, &self.authority.key())]
    }
}
