//! The NCCL library, if it is there and new enough.

use crate::error::NcclError;
use cudarc::nccl::{result, sys};
use std::ffi::{CStr, c_char};
use std::fmt;

/// The oldest whose functions and structures are the ones that are called here.
const OLDEST: Version = Version(22200);

/// An NCCL version as the library tells it: major x 10000 + minor x 100 + patch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub(crate) u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

/// What the members of a new communicator have in common. Rank 0 makes it and listens where it says, so it is good for
/// one communicator, and for as long as that process lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UniqueId([u8; Self::BYTES]);

impl UniqueId {
    /// Its length.
    pub const BYTES: usize = 128;

    /// As bytes, to send.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// From bytes that rank 0 sent.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn to_nccl(self) -> sys::ncclUniqueId {
        sys::ncclUniqueId { internal: self.0.map(|byte| byte as c_char) }
    }
}

/// What a member brings to a [`crate::rendezvous()`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Of its NCCL.
    pub version: Version,
    /// What it made if it is rank 0; of the others nobody looks at it.
    pub id: UniqueId,
}

impl Offer {
    /// For members that do everything as with NCCL, but for NCCL: no library has this version, so they and members with
    /// one never take each other's offers.
    pub const WITHOUT_NCCL: Self = Self { version: Version(u32::MAX), id: UniqueId([0; UniqueId::BYTES]) };
}

/// A loaded NCCL. Whoever has one may call NCCL.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    version: Version,
}

impl Library {
    /// Looks for the library where the system's loader looks.
    ///
    /// # Errors
    /// [`NcclError::LibraryAbsent`] and [`NcclError::TooOld`].
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    pub fn open() -> Result<Self, NcclError> {
        // SAFETY: the initialisers of NCCL are meant to be run so.
        if !unsafe { sys::is_culib_present() } {
            return Err(NcclError::LibraryAbsent { looked_for: cudarc::get_lib_name_candidates("nccl") });
        }
        let found = result::get_nccl_version().map_err(|e| failed("ask NCCL for its version", e.0))?;
        let found = Version(found.try_into().unwrap_or(0));
        if found < OLDEST {
            return Err(NcclError::TooOld { found, oldest: OLDEST });
        }
        Ok(Self { version: found })
    }

    /// What it says about itself.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the member of this rank brings to a rendezvous.
    ///
    /// # Errors
    /// As [`Library::unique_id`].
    pub fn offer(&self, rank: usize) -> Result<Offer, NcclError> {
        let id = if rank == 0 { self.unique_id()? } else { Offer::WITHOUT_NCCL.id };
        Ok(Offer { version: self.version, id })
    }

    /// Makes the identity of a new communicator, whose members will find this process by it.
    ///
    /// # Errors
    /// When NCCL finds no network to listen on.
    pub fn unique_id(&self) -> Result<UniqueId, NcclError> {
        let id = result::get_uniqueid().map_err(|e| failed("make an NCCL unique id", e.0))?;
        Ok(UniqueId(id.internal.map(|byte| byte as u8)))
    }
}

/// The error for a call that is no communicator's.
pub(crate) fn failed(doing: &'static str, code: sys::ncclResult_t) -> NcclError {
    of_code(doing, code, std::ptr::null_mut())
}

/// The error for what a call returned; `comm` may be null.
#[expect(unsafe_code, reason = "NCCL's own texts")]
pub(crate) fn of_code(doing: &'static str, code: sys::ncclResult_t, comm: sys::ncclComm_t) -> NcclError {
    // SAFETY: the library is loaded, as one of its functions returned the code. Both give static or thread-owned
    // strings, which are copied at once, and the second takes a null communicator.
    let (what, last) = unsafe { (text(sys::ncclGetErrorString(code)), text(sys::ncclGetLastError(comm))) };
    let detail = if last.is_empty() { what } else { format!("{what}: {last}") };
    match code {
        sys::ncclResult_t::ncclRemoteError => NcclError::PeerLost { doing, detail },
        _ => NcclError::Failed { doing, detail },
    }
}

#[expect(unsafe_code, reason = "a C string")]
unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the caller's: a string of NCCL's, which ends with a zero.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        assert_eq!(Version(23203).to_string(), "2.32.3");
        assert_eq!(OLDEST.to_string(), "2.22.0");
        let error = NcclError::TooOld { found: Version(21805), oldest: OLDEST };
        assert!(error.to_string().starts_with("the NCCL library is 2.18.5, expected 2.22.0 or newer\nhint: "));
    }

    #[test]
    fn ids_pass_through_nccls_signed_bytes() {
        let mut bytes = [0; UniqueId::BYTES];
        (0_u8..=127).zip(&mut bytes).for_each(|(i, byte)| *byte = i.wrapping_mul(37));
        let back = UniqueId::from_bytes(bytes).to_nccl().internal.map(|byte| byte as u8);
        assert_eq!(back, bytes);
    }
}
