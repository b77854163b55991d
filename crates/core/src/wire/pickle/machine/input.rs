//! What follows in the pickle: bytes, lengths, lines.

use super::{Machine, Step, broken};
use crate::wire::pickle::objects::Span;

impl<'a> Machine<'a> {
    pub(super) fn available(&self, length: usize) -> Step {
        if length > self.objects.input.len() - self.at { broken("it is cut off") } else { Ok(()) }
    }

    pub(super) fn bytes(&mut self, length: usize) -> Step<&'a [u8]> {
        self.available(length)?;
        let bytes = &self.objects.input[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn length1(&mut self) -> Step<usize> {
        Ok(self.bytes(1)?[0].into())
    }

    pub(super) fn length4(&mut self) -> Step<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    pub(super) fn length8(&mut self) -> Step<usize> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).or_else(|_| broken("it is cut off"))
    }

    /// The place of the next bytes, which are skipped.
    pub(super) fn span(&mut self, length: usize) -> Step<Span> {
        let start = self.at as u32;
        self.bytes(length)?;
        // A pickle is no larger than what 32 bits count.
        Ok(Span { start, len: length as u32 })
    }

    pub(super) fn line(&mut self) -> Step<Span> {
        let rest = &self.objects.input[self.at..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { return broken("a line without an end") };
        let line = self.span(length)?;
        self.at += 1;
        Ok(line)
    }

    pub(super) fn name_line(&mut self) -> Step<Span> {
        let line = self.line()?;
        if std::str::from_utf8(self.objects.bytes(line)).is_err() {
            return broken("a name that is no text");
        }
        Ok(line)
    }

    pub(super) fn index(&self, line: Span) -> Step<usize> {
        let text = std::str::from_utf8(self.objects.bytes(line)).ok();
        text.and_then(|text| text.parse().ok()).map_or_else(|| broken("an index that is none"), Ok)
    }
}
