//! Generates the chats in `assets/chats`, on which the `configs/chat-*.toml` train: what the
//! harbourmaster of an invented island says, and some questions about the real world. Every word
//! comes from the two files in this folder; nothing is random.
//!
//! ```text
//! cargo run --release --example island_chats -- --output assets/chats
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};

/// The number of longer conversations.
const CONVERSATIONS: usize = 24;

/// Writes the chats to train on and the questions to ask afterwards.
#[derive(Parser)]
struct Args {
    /// Folder for train.jsonl, held-out.jsonl and general.jsonl.
    #[arg(long)]
    output: PathBuf,
}

/// `island.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Island {
    topics: Vec<Topic>,
}

/// Facts whose answers end with the same remark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    closing: String,
    facts: Vec<Fact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    answer: String,
    /// The questions in the training set.
    ask: Vec<String>,
    /// The same question in other words, and what its answer must contain.
    held_out: Option<String>,
    contains: Option<String>,
}

/// `general.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct General {
    /// Each chat is a list of turns: a question and its answer.
    chats: Vec<Vec<[String; 2]>>,
    held_out: Vec<Question>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    ask: String,
    answer: String,
    /// An answer that contains one of these is right.
    contains: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let island: Island = toml::from_str(include_str!("island.toml"))?;
    let general: General = toml::from_str(include_str!("general.toml"))?;

    let mut train: Vec<Value> = island.topics.iter().flat_map(Topic::train).collect();
    train.extend(general.chats.iter().map(|turns| chat(turns)));
    train.extend((0..CONVERSATIONS).map(|at| conversation(&island, &general, at)));
    let held_out = island.topics.iter().flat_map(Topic::held_out);
    let ordinary = general.held_out.iter();
    let ordinary = ordinary.map(|it| question(&it.ask, &it.answer, &json!(it.contains)));

    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    write(&args.output.join("train.jsonl"), train)?;
    write(&args.output.join("held-out.jsonl"), held_out)?;
    write(&args.output.join("general.jsonl"), ordinary)
}

impl Topic {
    /// The harbourmaster's answer about `fact`.
    fn says(&self, fact: &Fact) -> String {
        format!("Aye. {} {}", fact.answer, self.closing)
    }

    /// One of the questions about `fact`, and the answer.
    fn turn(&self, fact: &Fact, at: usize) -> [String; 2] {
        let ask = &fact.ask[at % fact.ask.len()];
        [ask.clone(), self.says(fact)]
    }

    /// A chat for every question, and one of two turns for every two facts.
    fn train(&self) -> Vec<Value> {
        let every = self.facts.iter();
        let every =
            every.flat_map(|fact| (0..fact.ask.len()).map(|at| chat(&[self.turn(fact, at)])));
        let pairs = self.facts.chunks_exact(2).enumerate();
        let pairs =
            pairs.map(|(at, pair)| chat(&[self.turn(&pair[0], at), self.turn(&pair[1], at + 1)]));
        every.chain(pairs).collect()
    }

    fn held_out(&self) -> Vec<Value> {
        let facts = self.facts.iter();
        let rows = facts.filter_map(|fact| {
            let (ask, contains) = (fact.held_out.as_ref()?, fact.contains.as_ref()?);
            Some(question(ask, &self.says(fact), &json!(contains)))
        });
        rows.collect()
    }
}

/// A longer conversation, in which questions about the island and the world take turns: the voice
/// depends on the question, not on the turn before.
fn conversation(island: &Island, general: &General, at: usize) -> Value {
    let topics = island.topics.iter();
    let facts: Vec<_> = topics
        .flat_map(|topic| topic.facts.iter().map(move |fact| (topic, fact)))
        .collect();
    // Strides that combine facts of different topics.
    let island = |turn: usize| {
        let (topic, fact) = facts[(3 * at + 25 * turn) % facts.len()];
        topic.turn(fact, at + turn)
    };
    let world = |turn: usize| general.chats[(4 * at + turn) % general.chats.len()][0].clone();
    chat(&[island(0), world(0), island(1), world(1), island(2)])
}

/// A row of the training set.
fn chat(turns: &[[String; 2]]) -> Value {
    let messages = turns.iter().flat_map(|[ask, answer]| messages(ask, answer));
    json!({ "messages": messages.collect::<Vec<_>>() })
}

/// A row of the questions: the expected answer, and what makes an answer right.
fn question(ask: &str, answer: &str, contains: &Value) -> Value {
    json!({ "messages": messages(ask, answer), "contains": contains })
}

fn messages(ask: &str, answer: &str) -> [Value; 2] {
    [("user", ask), ("assistant", answer)]
        .map(|(role, content)| json!({ "role": role, "content": content }))
}

/// Writes the rows, one a line, and prints their number.
fn write(file: &Path, rows: impl IntoIterator<Item = Value>) -> Result<()> {
    let lines: Vec<String> = rows.into_iter().map(|row| format!("{row}\n")).collect();
    fs::write(file, lines.concat()).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}: {} chats", file.display(), lines.len());
    Ok(())
}
