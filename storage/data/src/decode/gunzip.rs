//! Unzipping gzip files of several members, with zeros behind any of them, as gzip itself, Python and pandas read them.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// The unzipped bytes of a gzip file.
pub(super) struct Gunzip<R> {
    state: State<R>,
}

enum State<R> {
    Within(Box<GzDecoder<R>>),
    /// After a member.
    Between(R),
    Ended,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self { state: State::Within(Box::new(GzDecoder::new(input))) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Within(mut member) => {
                    let count = member.read(buffer)?;
                    if count > 0 {
                        self.state = State::Within(member);
                        return Ok(count);
                    }
                    self.state = State::Between(member.into_inner());
                }
                State::Between(mut input) => {
                    let bytes = input.fill_buf()?;
                    if bytes.is_empty() {
                        return Ok(0);
                    }
                    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
                    input.consume(zeros);
                    self.state = match zeros {
                        0 => State::Within(Box::new(GzDecoder::new(input))),
                        _ => State::Between(input),
                    };
                }
                State::Ended => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::{BufReader, Write as _};

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn unzipped(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        Gunzip::new(BufReader::with_capacity(7, bytes)).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn members_follow_each_other_with_zeros_between_and_behind_them() {
        let (a, b, none, zeros) = (gzip("ab"), gzip("cd"), gzip(""), vec![0; 20]);
        let all = [&a[..], &none, &zeros, &b, &zeros].concat();
        assert_eq!(unzipped(&all).unwrap(), "abcd");
    }

    #[test]
    fn what_is_behind_a_member_and_no_gzip_is_an_error_and_so_is_half_a_member() {
        let whole = gzip("ab");
        assert!(unzipped(&[&whole[..], b"more"].concat()).is_err());
        assert!(unzipped(&[&whole[..], &[0, 0], &whole[..12]].concat()).is_err());
    }
}
