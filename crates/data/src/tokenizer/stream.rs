//! Decoding token by token, for text that is printed as it comes.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Turns token ids into text one at a time, holding a character back until all its bytes have come.
///
/// A token may be part of a character (byte-level BPE), and its text may depend on the token before
/// it (a leading space). So a window of recent tokens is decoded, and only text that is new and
/// complete is returned.
#[derive(Clone, Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The window: tokens already returned, for context, then tokens that are not.
    ids: Vec<u32>,
    /// How many of them are context.
    context: usize,
    /// The bytes of the window's text that were returned.
    printed: usize,
}

/// The replacement for undecodable bytes; at the end of a text it may be an incomplete character.
const REPLACEMENT: char = '\u{fffd}';

impl Tokenizer {
    /// A decoder for text that is printed as it comes.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream {
            tokenizer: self,
            ids: Vec::new(),
            context: 0,
            printed: 0,
        }
    }
}

impl TextStream<'_> {
    /// Takes one more token and returns the text that it completes, which may be empty.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        let complete = text.trim_end_matches(REPLACEMENT);
        let new = complete.get(self.printed..).unwrap_or_default().to_owned();
        self.printed += new.len();
        if complete.len() == text.len() {
            self.ids.drain(..self.context);
            self.context = self.ids.len();
            self.printed = self.tokenizer.decode(&self.ids)?.len();
        }
        Ok(new)
    }

    /// Returns the text held back: `�` for a character that was never completed.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn finish(self) -> Result<String> {
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(text.get(self.printed..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::bpe::tiny;

    fn stream(ids: &[u32]) -> (Vec<String>, String) {
        let tokenizer = tiny();
        let mut stream = tokenizer.stream();
        let pieces = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        (pieces, stream.finish().unwrap())
    }

    #[test]
    fn characters_come_whole() {
        let ids = tiny().encode("é日🦀!").unwrap();
        assert_eq!(
            ids.len(),
            2 + 3 + 4 + 1,
            "this tokenizer has never seen these characters"
        );
        let (pieces, rest) = stream(&ids);
        assert_eq!(pieces, ["", "é", "", "", "日", "", "", "", "🦀", "!"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn the_pieces_add_up_to_the_text_whatever_the_tokens() {
        let ids = tiny().encode("the cat\n sat 日🦀 the").unwrap();
        let mut cut = ids.clone();
        cut.truncate(ids.len() - 3);
        // Tokens in an order that no text has: broken characters everywhere.
        let reversed = ids.iter().rev().copied().collect();
        let garbage = (0..600).map(|i| i * 7919 % 300).collect();
        for ids in [ids, cut, reversed, garbage, vec![]] {
            let (pieces, rest) = stream(&ids);
            assert_eq!(pieces.concat() + &rest, tiny().decode(&ids).unwrap());
        }
    }
}
