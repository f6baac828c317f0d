//! Numbers of other types in a state of float32: which tensors it can hold, and what a pass reads of it.

use crate::storage::MASTER;
use half::{bf16, f16};
use tch::{Kind, TchError, Tensor};

/// Whether float32 holds each of the tensor's values exactly, in a type that [`as_read`] knows.
pub(crate) fn holds(tensor: &Tensor) -> Result<bool, TchError> {
    let kind = tensor.kind();
    if tensor.is_sparse() || tensor.is_mkldnn() {
        return Ok(false);
    }
    match kind {
        Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Bool | Kind::Uint8 | Kind::Int8 | Kind::Int16 => Ok(true),
        Kind::Int | Kind::Int64 => {
            let held = tensor.f_to_kind(MASTER)?;
            // The largest values round up to what the type does not have.
            if tensor.numel() > 0 && held.f_abs()?.f_max()?.f_double_value(&[])? >= 2f64.powi(31) {
                return Ok(false);
            }
            held.f_to_kind(kind)?.f_equal(tensor)
        }
        Kind::Double => {
            let back = tensor.f_to_kind(MASTER)?.f_to_kind(kind)?;
            let same = back.f_eq_tensor(tensor)?.f_logical_or(&tensor.f_isnan()?)?;
            Ok(same.f_all()?.f_int64_value(&[])? != 0)
        }
        _ => Ok(false),
    }
}

/// What a tensor of this type holds where the state has this value: whole numbers are rounded, ties to even.
pub(crate) fn as_read(kind: Kind, value: f32) -> f32 {
    let whole = |min: f32, max: f32| value.round_ties_even().clamp(min, max);
    match kind {
        Kind::Half => f16::from_f32(value).to_f32(),
        Kind::BFloat16 => bf16::from_f32(value).to_f32(),
        Kind::Bool => f32::from(value.round_ties_even() != 0.0),
        Kind::Uint8 => whole(0.0, 255.0),
        Kind::Int8 => whole(-128.0, 127.0),
        Kind::Int16 => whole(-32_768.0, 32_767.0),
        // The largest float32 below 2^31.
        Kind::Int | Kind::Int64 => whole(-2_147_483_648.0, 2_147_483_520.0),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_float32_holds_exactly() {
        for (tensor, held) in [
            (Tensor::from_slice(&[0.1f32, f32::NAN, f32::NEG_INFINITY]), true),
            (Tensor::from_slice(&[0.5f64, f64::NAN, -3.0]), true),
            (Tensor::from_slice(&[0.1f64]), false),
            (Tensor::from_slice(&[1i64 << 24, -5]), true),
            (Tensor::from_slice(&[(1i64 << 24) + 1]), false),
            (Tensor::from_slice(&[i64::MAX]), false),
            (Tensor::from_slice(&[true, false]), true),
            (Tensor::from_slice(&[0.1f64]).to_kind(Kind::ComplexDouble), false),
            (Tensor::zeros([0], (Kind::Int64, tch::Device::Cpu)), true),
        ] {
            assert_eq!(holds(&tensor).expect("look at the tensor"), held, "{tensor:?}");
        }
    }

    #[test]
    fn libtorch_reads_the_same() {
        let values = [-300.0, -2.5, -0.5, 0.0, 0.4, 0.5, 0.6, 1.5, 2.5, 77.7, 260.0, 1e7, 3e9f32];
        for kind in
            [Kind::Half, Kind::BFloat16, Kind::Bool, Kind::Uint8, Kind::Int8, Kind::Int16, Kind::Int, Kind::Int64]
        {
            let read: Vec<f32> = values.iter().map(|&value| as_read(kind, value)).collect();
            let through = Tensor::from_slice(&read).to_kind(kind).to_kind(Kind::Float);
            assert_eq!(Vec::<f32>::try_from(through).unwrap(), read, "{kind:?}");
        }
    }
}
