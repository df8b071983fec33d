//! Finding which parts of a chat's text the assistant says.

use super::marks::{BEGIN, END, unmark};
use super::{ChatTemplate, Compiled};
use crate::error::TemplateProblem;
use crate::format::{CALLS, Chat};
use serde_json::{Value, json};
use std::ops::Range;

/// Takes the place of an answer, to see what surrounds it: a private-use character.
const PROBE: &str = "\u{f5e50}";

impl ChatTemplate {
    /// A chat's text, and the byte ranges of it that are the assistant's: each answer with the
    /// token that closes it, and the line end after that.
    ///
    /// They are the contents of `{% generation %}` if the template has it, and otherwise what each
    /// answer adds to the text of the messages before it (with the generation prompt). If the
    /// template renders those messages differently once more messages follow, the range is the
    /// answer as it stands in the whole text, between the generation prompt and the end that it has
    /// as the last message.
    ///
    /// # Errors
    /// [`TemplateProblem::MessageChangesOthers`] if the assistant's parts cannot be found, and the
    /// errors of [`render`](Self::render).
    pub fn answers(&self, chat: &Chat) -> Result<(String, Vec<Range<usize>>), TemplateProblem> {
        let compiled = self.compile()?;
        let marked = compiled.marked(&chat.messages, &chat.extras, false)?;
        if marked.contains(BEGIN) {
            let (text, spans) = unmark(&marked)?;
            if let Some(spans) = of_marks(chat, spans) {
                return Ok((text, spans));
            }
        }
        let whole = marked.replace([BEGIN, END], "");
        let answers = Answers {
            compiled: &compiled,
            chat,
            whole: &whole,
        };
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (index, message) in chat.messages.iter().enumerate().skip(chat.given) {
            if !Chat::is_learnt(message) {
                continue;
            }
            // Two answers never overlap.
            let after = spans.last().map_or(0, |span| span.end);
            let probed = |place| answers.probed(index, place);
            let span = answers
                .added(index)
                .or_else(|| probed(Place::Content))
                .or_else(|| probed(Place::Call));
            match span.filter(|span| span.start >= after) {
                Some(span) => spans.push(answers.closed(span)),
                None => return Err(TemplateProblem::MessageChangesOthers(index + 1)),
            }
        }
        Ok((whole, spans))
    }

    /// Checks that the template writes the answers whose spans are learnt. A template that wants
    /// `content` as a list of parts (SmolVLM, Idefics 3) writes nothing for a plain text.
    ///
    /// # Errors
    /// [`TemplateProblem::LeavesOut`] for the first answer whose text the template leaves out.
    pub(crate) fn check_said(
        &self,
        chat: &Chat,
        text: &str,
        spans: &[Range<usize>],
    ) -> Result<(), TemplateProblem> {
        let learnt = chat.answers();
        for (index, answer) in learnt.filter(|(_, answer)| Chat::is_learnt(answer)) {
            let said = answer["content"].as_str().unwrap_or_default().trim();
            let stands =
                |span: &Range<usize>| text[span.start..span.end.min(text.len())].contains(said);
            // Some templates leave the text out if there is a call.
            if said.is_empty() || answer.get(CALLS).is_some() || spans.iter().any(stands) {
                continue;
            }
            // It may be there in another form: without the reasoning in it, or escaped.
            let mut messages = chat.messages.clone();
            messages[index]["content"] = PROBE.into();
            let probed = self.written(&messages, &chat.extras, false);
            if probed.is_ok_and(|text| !text.contains(PROBE)) {
                return Err(TemplateProblem::LeavesOut(index + 1));
            }
        }
        Ok(())
    }
}

/// Those of the marked spans that are learnt; `None` if they cannot be matched with the answers.
fn of_marks(chat: &Chat, spans: Vec<Range<usize>>) -> Option<Vec<Range<usize>>> {
    let turns = chat.messages.iter().enumerate();
    let turns = turns.filter(|(_, message)| message["role"] == "assistant");
    let learnt: Vec<bool> = turns
        .map(|(index, turn)| index >= chat.given && Chat::is_learnt(turn))
        .collect();
    if learnt.iter().all(|learnt| *learnt) {
        return Some(spans);
    }
    let pairs = (spans.len() == learnt.len()).then(|| spans.into_iter().zip(learnt))?;
    let learnt = pairs.filter(|(_, learnt)| *learnt);
    Some(learnt.map(|(span, _)| span).collect())
}

/// Where the answers of a chat are in its text.
struct Answers<'a> {
    compiled: &'a Compiled<'a>,
    chat: &'a Chat,
    whole: &'a str,
}

impl Answers<'_> {
    /// Extends a span up to the token that closes it. If an answer has none of its own, that is the
    /// tag of the next turn (GLM's `<|user|>`). A space before the next turn does not belong to it.
    fn closed(&self, span: Range<usize>) -> Range<usize> {
        let said = self.whole[span.clone()].trim_end();
        let special = self.compiled.template.special_tokens.values();
        let mut special = special
            .filter_map(Value::as_str)
            .filter(|token| !token.is_empty());
        let end = said.rfind('<').map_or("", |open| &said[open..]);
        let is_closed = special.any(|token| said.ends_with(token))
            || (end.ends_with('>') && (!end.starts_with("</") || end == "</s>"));
        let next = &self.whole[span.end..];
        if is_closed {
            let spaces = self.whole[span.clone()].trim_end_matches(' ').len();
            return span.start..span.start + spaces;
        }
        span.start..span.end + tag(next).map_or(0, str::len)
    }

    /// The text of the first messages. A template may refuse to render none, or a chat that ends
    /// there.
    fn first(&self, count: usize, prompt: bool) -> Option<String> {
        let messages = &self.chat.messages[..count];
        let rendered = self.compiled.render(messages, &self.chat.extras, prompt);
        rendered.ok()
    }

    /// The span that a message adds to the text of the messages before it.
    fn added(&self, index: usize) -> Option<Range<usize>> {
        let through = if index + 1 == self.chat.messages.len() {
            Some((self.whole.len(), false))
        } else {
            self.first(index + 1, false)
                .and_then(|text| self.common(&text))
        };
        let start = self.start(index)?;
        let (end, cut) = through?;
        // If an end was cut off, the answer must not be cut with it.
        let message = &self.chat.messages[index];
        let said = message["content"].as_str().unwrap_or_default().trim();
        let span = self.whole.get(start..end)?;
        (!cut || span.contains(said)).then_some(start..end)
    }

    /// Where an answer begins: after the generation prompt, or after as much of it as the template
    /// writes before an answer that is already there.
    fn start(&self, index: usize) -> Option<usize> {
        if index == 0 {
            return Some(self.start_of_first().unwrap_or(0));
        }
        let prompt = self.first(index, true);
        if let Some((start, _)) = prompt.as_ref().and_then(|prompt| self.common(prompt)) {
            return Some(start);
        }
        let base = self.first(index, false)?;
        let (start, _) = self.common(&base)?;
        let header = prompt.and_then(|prompt| self.header(&prompt, &base, index));
        let header = header.filter(|header| self.whole[start..].starts_with(header));
        Some(start + header.map_or(0, |header| header.len()))
    }

    /// Where an answer begins that has no message before it: few templates render an empty chat,
    /// but all show what they put before a second answer.
    fn start_of_first(&self) -> Option<usize> {
        let (prompt, base) = (self.first(1, true)?, self.first(1, false)?);
        let prompt = prompt.get(shared(&prompt, &base)..)?;
        let (before, _) = self.around(Place::Content, 0, 1)?;
        let places = (1..=prompt.len()).rev();
        let headers = places.filter_map(|length| prompt.get(..length));
        let found = headers.filter_map(|header| Some(before.rfind(header)? + header.len()));
        let start = found.into_iter().next()?;
        self.whole.starts_with(&before[..start]).then_some(start)
    }

    /// The text that precedes any answer to the first messages, part of the generation prompt.
    fn header(&self, prompt: &str, base: &str, index: usize) -> Option<String> {
        let (up_to, _) = self.around(Place::Content, index, index + 1)?;
        let header = prompt.get(shared(prompt, base)..shared(prompt, &up_to))?;
        Some(header.into())
    }

    /// The text of the first messages before and after a position in one of them.
    fn around(&self, place: Place, index: usize, count: usize) -> Option<(String, String)> {
        let mut messages = self.chat.messages[..count].to_vec();
        let message = &mut messages[index];
        let probed = match place {
            Place::Content => message.get_mut("content")?,
            Place::Call => message.pointer_mut("/tool_calls/0/function/name")?,
        };
        *probed = match probed {
            Value::String(_) => PROBE.into(),
            Value::Array(_) => json!([{"type": "text", "text": PROBE}]),
            _ => return None,
        };
        let text = self.compiled.render(&messages, &self.chat.extras, false);
        let text = text.ok()?;
        let (before, after) = text.split_once(PROBE)?;
        (!after.contains(PROBE)).then(|| (before.into(), after.into()))
    }

    /// How much of the text of a chat's first messages also begins the text of all messages. A
    /// template may end a text after its last message, whichever that is; such an end is not
    /// counted, and `true` is returned with the rest. `None` if the two differ in more than that.
    fn common(&self, text: &str) -> Option<(usize, bool)> {
        let whole = self.whole;
        if whole.starts_with(text) {
            return Some((text.len(), false));
        }
        let mut end = shared(text, whole);
        // The `<|` of the end and of the next turn's `<|user|>` is not text that they share.
        let special = self.compiled.template.special_tokens.values();
        for token in special
            .filter_map(Value::as_str)
            .filter(|token| !token.is_empty())
        {
            for text in [text, whole] {
                let mut found = text.match_indices(token).map(|(start, _)| start);
                let across = found.find(|&start| start < end && end < start + token.len());
                end = across.unwrap_or(end);
            }
        }
        // A tag that another one replaced.
        let is_within_tag = whole[..end].rfind("<|") > whole[..end].rfind("|>");
        (!is_within_tag && whole.ends_with(&text[end..])).then_some((end, true))
    }

    /// The span of a message anywhere in the text, found by putting another text in its place.
    fn probed(&self, index: usize, place: Place) -> Option<Range<usize>> {
        // Its position in the whole text.
        let (before, after) = self.around(place, index, self.chat.messages.len())?;
        let stands = before.len() + after.len() <= self.whole.len()
            && self.whole.starts_with(&before)
            && self.whole.ends_with(&after);
        // What surrounds it as the last message: the end of the prompt, and what closes it.
        let (prompt, base) = (self.first(index, true)?, self.first(index, false)?);
        let (up_to, close) = self.around(place, index, index + 1)?;
        let header = prompt.get(shared(&prompt, &base)..shared(&prompt, &up_to))?;
        if !stands || header.is_empty() {
            return None;
        }
        let start = behind(&before, header, &up_to)?;
        let end = self.whole.len() - after.len();
        if after.starts_with(&close) {
            Some(start..end + close.len())
        } else if tag(&close) == Some(&close) {
            // The last answer is closed by another tag than those before it (GPT-OSS).
            Some(start..end + tag(&after)?.len())
        } else {
            None
        }
    }
}

/// The place in a message where another text is put.
#[derive(Clone, Copy)]
enum Place {
    Content,
    /// The name of the first tool that it calls.
    Call,
}

/// Where the speech begins in the text before it: after the header, whose end may be missing in
/// earlier messages. What follows the header in `up_to` has to be there too, or at least its
/// beginning and its end, without the reasoning between them.
fn behind(before: &str, header: &str, up_to: &str) -> Option<usize> {
    let all = &up_to[up_to.rfind(header)?..];
    let lengths = (1..=header.len()).rev();
    let mut headers = lengths.filter_map(|length| header.get(..length));
    headers.find_map(|part| {
        let is_whole = part.len() == header.len() || part.ends_with(['\n', '>', ':', ' ']);
        let start = before.rfind(part)? + part.len();
        let (here, there) = (&before[start..], &all[part.len()..]);
        let reversed = |text: &str| text.chars().rev().collect::<String>();
        let ends = shared(&reversed(here), &reversed(there));
        (is_whole && shared(here, there) + ends >= here.len()).then_some(start)
    })
}

/// The tag at the start of a text: `<|end|>`.
fn tag(text: &str) -> Option<&str> {
    let name = text.strip_prefix("<|")?;
    let (name, _) = name.split_once("|>")?;
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| &text[..name.len() + 4])
}

/// How many bytes two texts have in common at the start.
fn shared(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(character, _)| character.len_utf8()).sum()
}
