//! Damages a case: the bytes of any file, and the structure of JSON, safetensors, Parquet, TOML and
//! others.

use rand::Rng;
use rand::seq::{IndexedMutRandom, IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use crate::corpus::Case;
use crate::values::Values;

/// Damages a case in one or several places. `others` are cases of the same reader.
pub fn spoil(case: &mut Case, others: &[Case], values: &Values, rng: &mut ChaCha8Rng) {
    let times = *[1, 1, 1, 1, 2, 2, 3, 6].choose(rng).unwrap_or(&1);
    for _ in 0..times {
        let Some(index) = (!case.is_empty()).then(|| rng.random_range(0..case.len())) else {
            return;
        };
        let name = case[index].0.clone();
        match rng.random_range(0..40) {
            0 => drop(case.swap_remove(index)),
            // The file of this name from another case.
            1 => {
                let found = others
                    .choose(rng)
                    .and_then(|other| other.iter().find(|file| file.0 == name));
                case[index].1 = found.map_or_else(Vec::new, |file| file.1.clone());
            }
            _ => {
                let other = others
                    .choose(rng)
                    .and_then(|other| other.iter().find(|file| file.0 == name));
                let other = other.map_or(&[][..], |file| &file.1);
                file(&name, &mut case[index].1, other, values, rng);
            }
        }
    }
}

fn file(name: &str, bytes: &mut Vec<u8>, other: &[u8], values: &Values, rng: &mut ChaCha8Rng) {
    let kind = name.rsplit_once('.').map_or("", |(_, end)| end);
    let knowing = rng.random_range(0..4) > 0;
    let spoilt = knowing
        && match kind {
            "json" => of_json(bytes, values, rng),
            "jsonl" => of_lines(bytes, values, rng),
            "toml" => of_toml(bytes, values, rng),
            "safetensors" => of_safetensors(bytes, values, rng),
            "parquet" => of_parquet(bytes, rng),
            "gguf" => of_gguf(bytes, rng),
            _ => false,
        };
    let binary = ["safetensors", "parquet", "gguf"].contains(&kind);
    if !spoilt && !binary && rng.random::<bool>() {
        of_text(bytes, values, rng);
    } else if !spoilt {
        of_bytes(bytes, other, values, rng);
    }
}

/// Damages the bytes of any file.
fn of_bytes(bytes: &mut Vec<u8>, other: &[u8], values: &Values, rng: &mut ChaCha8Rng) {
    let length = bytes.len();
    let at = rng.random_range(0..=length);
    let until = (at + rng.random_range(1..=length.clamp(1, 64))).min(length);
    match rng.random_range(0..9) {
        0 if at < length => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < length => {
            bytes[at] = *[
                0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'}', b'[', b'\n', b'\r', b',',
            ]
            .choose(rng)
            .unwrap_or(&0)
        }
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..until)),
        4 => {
            let piece = bytes[at..until].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let word = values.word(rng);
            bytes.splice(at..at, word.into_bytes());
        }
        6 => {
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        7 => {
            let number = *[
                0,
                1,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
                u64::MAX,
                1 << 40,
            ]
            .choose(rng)
            .unwrap_or(&0);
            let width = *[2, 4, 8].choose(rng).unwrap_or(&4);
            for (to, from) in bytes
                .iter_mut()
                .skip(at)
                .zip(&number.to_le_bytes()[..width])
            {
                *to = *from;
            }
        }
        _ => {
            let some: Vec<u8> = (0..rng.random_range(1..16)).map(|_| rng.random()).collect();
            bytes.splice(at..at, some);
        }
    }
}

/// Changes a name, or the number before or after one: lengths, types, values, shapes, offsets.
fn of_gguf(bytes: &mut [u8], rng: &mut ChaCha8Rng) -> bool {
    let letters = |window: &[u8]| window.iter().all(u8::is_ascii_lowercase);
    let names: Vec<usize> = (0..bytes.len().saturating_sub(48))
        .filter(|&at| letters(&bytes[at..at + 4]))
        .collect();
    let Some(&at) = names.choose(rng) else {
        return false;
    };
    let numbers = [
        0,
        1,
        2,
        4,
        8,
        9,
        10,
        13,
        32,
        64,
        0xffff,
        1 << 31,
        1 << 32,
        1 << 63,
        u64::MAX,
    ];
    let number = numbers.choose(rng).unwrap_or(&0).to_le_bytes();
    let width = *[1, 4, 8].choose(rng).unwrap_or(&8);
    let end = (at..bytes.len()).find(|&end| !bytes[end].is_ascii_graphic());
    let place = match rng.random_range(0..4) {
        0 => at,
        1 => at.saturating_sub(8),
        _ => end.unwrap_or(at) + *[0, 4, 8, 12, 16, 20].choose(rng).unwrap_or(&0),
    };
    let spoilt = bytes.iter_mut().skip(place);
    spoilt
        .zip(&number[..width])
        .for_each(|(to, from)| *to = *from);
    true
}

/// Changes numbers and lines of a text.
fn of_text(bytes: &mut Vec<u8>, values: &Values, rng: &mut ChaCha8Rng) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = rng.random_range(0..lines.len().max(1));
    match rng.random_range(0..6) {
        0 if !lines.is_empty() => drop(lines.remove(at)),
        1 if !lines.is_empty() => lines.insert(at, lines[at]),
        2 => lines.shuffle(rng),
        _ => {
            let digits: Vec<usize> = text
                .bytes()
                .enumerate()
                .filter(|(_, byte)| byte.is_ascii_digit())
                .map(|(at, _)| at)
                .collect();
            let Some(&start) = digits.choose(rng) else {
                return of_bytes(bytes, &[], values, rng);
            };
            // From here on as text: replacing invalid UTF-8 may have made it longer.
            let end = start + text[start..].bytes().take_while(u8::is_ascii_digit).count();
            *bytes = text.as_bytes().to_vec();
            bytes.splice(start..end, values.number(rng).into_bytes());
            return;
        }
    }
    *bytes = lines.concat().into_bytes();
}

fn of_json(bytes: &mut Vec<u8>, values: &Values, rng: &mut ChaCha8Rng) -> bool {
    let Ok(mut value) = serde_json::from_slice(bytes) else {
        return false;
    };
    change(&mut value, values, rng);
    *bytes = value.to_string().into_bytes();
    true
}

fn of_lines(bytes: &mut Vec<u8>, values: &Values, rng: &mut ChaCha8Rng) -> bool {
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let Some(line) = lines.choose_mut(rng) else {
        return false;
    };
    let spoilt = of_json(line, values, rng);
    line.push(b'\n');
    *bytes = lines.concat();
    spoilt
}

fn of_toml(bytes: &mut Vec<u8>, values: &Values, rng: &mut ChaCha8Rng) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(mut value) = toml::from_str::<Value>(&text) else {
        return false;
    };
    change(&mut value, values, rng);
    // TOML has no null.
    let text = toml::to_string(&value);
    text.map(|text| *bytes = text.into_bytes()).is_ok()
}

/// Changes the header with its length. The tensors stay.
fn of_safetensors(bytes: &mut Vec<u8>, values: &Values, rng: &mut ChaCha8Rng) -> bool {
    let Some(&length) = bytes.first_chunk::<8>() else {
        return false;
    };
    let Some(end) = usize::try_from(u64::from_le_bytes(length))
        .ok()
        .and_then(|length| length.checked_add(8))
    else {
        return false;
    };
    let Some(header) = bytes.get(8..end) else {
        return false;
    };
    let mut header = header.to_vec();
    if !of_json(&mut header, values, rng) {
        return false;
    }
    let length = (header.len() as u64).to_le_bytes();
    bytes.splice(..end, length.into_iter().chain(header));
    true
}

/// Changes the footer, which says where everything is, or the headers of the pages.
fn of_parquet(bytes: &mut [u8], rng: &mut ChaCha8Rng) -> bool {
    let length = bytes.len();
    if length < 12 {
        return false;
    }
    let footer = bytes[length - 8..]
        .first_chunk()
        .map_or(0, |&word| u32::from_le_bytes(word) as usize);
    let from = length.saturating_sub(footer + 8).min(length - 1);
    let range = if rng.random_range(0..3) > 0 {
        from..length
    } else {
        0..from.max(1)
    };
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(range.clone());
        bytes[at] = if rng.random() {
            rng.random()
        } else {
            bytes[at] ^ 1 << rng.random_range(0..8)
        };
    }
    true
}

/// Changes a value, or one inside it.
fn change(value: &mut Value, values: &Values, rng: &mut ChaCha8Rng) {
    let descend = rng.random_range(0..8) > 0;
    match value {
        Value::Object(map) if descend && !map.is_empty() => {
            let at = rng.random_range(0..map.len());
            if rng.random_range(0..4) > 0 {
                if let Some((_, inner)) = map.iter_mut().nth(at) {
                    change(inner, values, rng);
                }
                return;
            }
            entry(map, at, values, rng);
        }
        Value::Array(list) if descend && !list.is_empty() => {
            let at = rng.random_range(0..list.len());
            match rng.random_range(0..6) {
                0 => drop(list.remove(at)),
                1 => list.insert(at, list[at].clone()),
                2 => list.shuffle(rng),
                _ => change(&mut list[at], values, rng),
            }
        }
        _ => *value = values.value(rng),
    }
}

/// Changes the keys of an object.
fn entry(map: &mut Map<String, Value>, at: usize, values: &Values, rng: &mut ChaCha8Rng) {
    let Some(key) = map.keys().nth(at).cloned() else {
        return;
    };
    match rng.random_range(0..4) {
        0 => drop(map.shift_remove(&key)),
        1 => {
            let value = map.shift_remove(&key).unwrap_or_default();
            map.insert(values.key(rng), value);
        }
        2 => drop(map.insert(values.key(rng), values.value(rng))),
        _ => {
            let value = map[&key].clone();
            map.insert(values.word(rng), value);
        }
    }
}
