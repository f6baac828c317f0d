//! The first part of a data set: enough of it to try something on, without fetching the rest.

use super::Manifest;

impl Manifest {
    /// The same data set as if it ended after the first objects that hold at least `rows` rows together (for text,
    /// bytes); all of it where there are fewer.
    #[must_use]
    pub fn prefix(mut self, rows: u64) -> Self {
        let (mut objects, mut held) = (0, 0);
        for block in self.blocks() {
            if held >= rows && objects > 0 {
                break;
            }
            objects += block.len();
            held += block[0].rows;
        }
        self.objects.truncate(objects);
        self.rows = held;
        self
    }

    /// Bytes of all objects, as stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.objects.iter().fold(0, |sum, object| sum.saturating_add(object.size))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Format, Manifest, Role};

    fn manifest(format: Format, rows: &[u64]) -> Manifest {
        let object = |(index, &rows): (usize, &u64)| {
            let role = match (format, index % 2) {
                (Format::Idx, 0) => Some(Role::Features),
                (Format::Idx, _) => Some(Role::Target),
                _ => None,
            };
            serde_json::json!({
                "path": format!("part-{index}"), "size": 10, "rows": rows, "role": role,
                "digest": format!("blake3:{}", "0".repeat(64)),
            })
        };
        let total: u64 = if format == Format::Idx { rows.iter().step_by(2).sum() } else { rows.iter().sum() };
        serde_json::from_value(serde_json::json!({
            "format_version": 1, "name": "parts", "format": format, "root": ".", "rows": total,
            "objects": rows.iter().enumerate().map(object).collect::<Vec<_>>(),
            "features": {"shape": [4], "dtype": "uint8", "scale": 1.0}, "target": {"kind": "class", "classes": 2},
        }))
        .expect("a manifest")
    }

    #[test]
    fn a_prefix_has_the_objects_that_hold_so_many_rows() {
        let whole = manifest(Format::Parquet, &[5, 5, 5]);
        for (rows, objects, held) in [(0, 1, 5), (5, 1, 5), (6, 2, 10), (15, 3, 15), (100, 3, 15)] {
            let prefix = whole.clone().prefix(rows);
            assert_eq!((prefix.objects.len(), prefix.rows), (objects, held), "{rows} rows");
            assert_eq!(prefix.stored_bytes(), 10 * objects as u64);
        }
    }

    #[test]
    fn images_keep_their_labels() {
        let prefix = manifest(Format::Idx, &[5, 5, 7, 7]).prefix(3);
        assert_eq!((prefix.objects.len(), prefix.rows), (2, 5));
        Manifest::parse(&prefix.to_bytes(), "prefix").expect("a manifest that holds");
    }
}
