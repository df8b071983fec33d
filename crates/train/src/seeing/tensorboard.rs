//! TensorBoard's event file: the content of `metrics.jsonl` as curves to watch during a run.
//!
//! A file of TFRecords (length, masked CRC-32C, payload, masked CRC-32C), each containing the
//! protocol buffer `Event`. Only a few fields of that message are needed, so they are encoded by
//! hand.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::checkpoint::files::write_atomically;
use crate::error::{Result, TrainError};

/// The name of the file in the output folder; TensorBoard looks for `tfevents` in it.
pub const EVENTS_NAME: &str = "events.out.tfevents.peft";

/// The open event file of a run.
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new file in the folder, replacing an existing one.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(EVENTS_NAME);
        let file = File::create(&path).map_err(TrainError::io(&path))?;
        let mut events = Self { file, path };
        let version = message(&[bytes(3, b"brain.Event:2")]);
        events.append(&event(0, version))?;
        Ok(events)
    }

    /// The file of a run that resumes after `step` in the folder `dir`, made from the one in the
    /// folder `from`, without later records and without an incomplete one. A new file if there is
    /// none.
    pub fn resume(dir: &Path, from: &Path, step: usize) -> Result<Self> {
        let before = from.join(EVENTS_NAME);
        if !before.exists() {
            return Self::create(dir);
        }
        let mut content = std::fs::read(&before).map_err(TrainError::io(&before))?;
        content.truncate(whole_until(&content, step as u64));
        if content.is_empty() {
            return Self::create(dir);
        }
        let path = dir.join(EVENTS_NAME);
        write_atomically(&path, &content)?;
        let file = File::options().append(true).open(&path);
        let file = file.map_err(TrainError::io(&path))?;
        Ok(Self { file, path })
    }

    /// Writes the numbers and texts of an entry of `metrics.jsonl`, with the names that
    /// transformers gives them: `train/loss`, `eval/loss`, ….
    pub fn write(&mut self, entry: &Map<String, Value>) -> Result<()> {
        let step = entry.get("step").and_then(Value::as_u64).unwrap_or(0);
        let mut summary = Vec::new();
        for (key, value) in entry.iter().filter(|(key, _)| *key != "step") {
            let tag = match key.strip_prefix("eval_") {
                Some(name) => format!("eval/{name}"),
                None => format!("train/{key}"),
            };
            let tag = bytes(1, tag.as_bytes());
            match (value.as_f64(), value.as_str()) {
                (Some(number), _) => summary.push(bytes(1, &message(&[tag, float(2, number)]))),
                (_, Some(text)) => {
                    let text = message(&[tag, text_tensor(text), text_plugin()]);
                    summary.push(bytes(1, &text));
                }
                _ => {}
            }
        }
        self.append(&event(step, bytes(5, &message(&summary))))
    }

    fn append(&mut self, payload: &[u8]) -> Result<()> {
        // In one call, so that a reader never sees an incomplete record.
        let written = self.file.write_all(&record(payload));
        written.map_err(TrainError::io(&self.path))
    }
}

/// `Event`: `wall_time` = 1, `step` = 2, and what happened.
fn event(step: u64, what: Vec<u8>) -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0.0, |time| time.as_secs_f64());
    let mut time = vec![0x09];
    time.extend(now.to_le_bytes());
    let mut at = vec![0x10];
    varint(&mut at, step);
    message(&[time, at, what])
}

/// `TensorProto` = 8 with one string: `dtype` = 1 (7 is a string), `tensor_shape` = 2 (one
/// dimension of size 1), `string_val` = 8.
fn text_tensor(text: &str) -> Vec<u8> {
    let shape = bytes(2, &bytes(2, &[0x08, 1]));
    bytes(
        8,
        &message(&[vec![0x08, 7], shape, bytes(8, text.as_bytes())]),
    )
}

/// `SummaryMetadata` = 9 with `plugin_data` = 1, whose `plugin_name` = 1 says how it is shown.
fn text_plugin() -> Vec<u8> {
    bytes(9, &bytes(1, &bytes(1, b"text")))
}

fn message(fields: &[Vec<u8>]) -> Vec<u8> {
    fields.concat()
}

/// A field that holds a text, bytes or another message.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    varint(&mut out, content.len() as u64);
    out.extend(content);
    out
}

fn float(field: u8, value: f64) -> Vec<u8> {
    let mut out = vec![field << 3 | 5];
    out.extend((value as f32).to_le_bytes());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    [
        &length[..],
        &masked_crc(&length),
        payload,
        &masked_crc(payload),
    ]
    .concat()
}

/// The length of the complete records up to and including `step`.
fn whole_until(content: &[u8], step: u64) -> usize {
    let mut end = 0;
    while let Some((payload, size)) = first_record(&content[end..]) {
        if step_of(payload).is_none_or(|found| found > step) {
            break;
        }
        end += size;
    }
    end
}

/// The payload and total size of the first record, if it is complete.
fn first_record(content: &[u8]) -> Option<(&[u8], usize)> {
    let length = content.get(..8)?;
    let size = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let end = size.checked_add(16)?;
    let payload = content.get(12..end - 4)?;
    let whole =
        content[8..12] == masked_crc(length) && *content.get(end - 4..end)? == masked_crc(payload);
    whole.then_some((payload, end))
}

/// The step of an event as [`event`] writes it: after the nine bytes of its time.
fn step_of(payload: &[u8]) -> Option<u64> {
    let rest = payload.get(9..)?.strip_prefix(&[0x10])?;
    let mut step = 0;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        step |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some(step);
        }
    }
    None
}

/// TFRecord's checksum: CRC-32C, rotated and offset.
fn masked_crc(content: &[u8]) -> [u8; 4] {
    let crc = crc32c(content);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli), bit by bit: a record has a few hundred bytes.
fn crc32c(content: &[u8]) -> u32 {
    !content.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        // Appendix B.4 of the RFC.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn a_run_that_goes_on_cuts_off_what_came_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EVENTS_NAME);
        let entry = |step: usize| {
            let value = serde_json::json!({ "step": step, "loss": 1.5, "sample": "a", "x": null });
            value.as_object().unwrap().clone()
        };
        let size = || std::fs::metadata(&path).unwrap().len();
        let mut events = EventFile::create(dir.path()).unwrap();
        events.write(&entry(150)).unwrap();
        let at_150 = size();
        events.write(&entry(300)).unwrap();
        let at_300 = size();
        // An incomplete record, as after a kill.
        events.file.write_all(&[1, 2, 3]).unwrap();

        EventFile::resume(dir.path(), dir.path(), 300).unwrap();
        assert_eq!(size(), at_300);
        let mut events = EventFile::resume(dir.path(), dir.path(), 299).unwrap();
        assert_eq!(size(), at_150);
        events.write(&entry(300)).unwrap();
        assert_eq!(size(), at_300);

        std::fs::write(&path, "no records").unwrap();
        EventFile::resume(dir.path(), dir.path(), 300).unwrap();
        assert!(size() > 0);
    }
}
