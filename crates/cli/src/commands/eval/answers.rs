//! `peft eval --generate`: answers a file's questions and compares with the file's own answers.

use std::ops::ControlFlow;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use burn_peft_data::{Asked, Question, Questions, Tokenizer};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{CausalLm, Continuation, GenerationConfig, LanguageModel, generate_rows};
use serde_json::{Value, json};

use super::super::generate::{encode_chat, encode_prompt, finish_reason, generation_defaults};
use super::{Args, held_out, json_of};
use burn_peft_train::limits;

use crate::loading::{
    check_language_model, find_data, load_tokenizer, open_each, warn_of_template,
};
use crate::output::{counted, emit, evaluation_bar, say, say_json, table};

/// Answers the questions of the file and prints how many answers are right.
pub fn run(args: &Args, files: &ModelFiles, device: &Device) -> Result<()> {
    let tokenizer = &load_tokenizer(files, args.rows.tokenizer.as_deref())?;
    let (asked, left_out) = questions(args)?;
    let questions = &asked.questions;
    let prompts = questions.iter().map(|question| {
        let ids = match &question.asked {
            Asked::Text(text) => encode_prompt(tokenizer, text),
            Asked::Chat(chat) => encode_chat(tokenizer, chat),
        };
        ids.with_context(|| format!("{} row {}", asked.file, question.row))
    });
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    let mut defaults = generation_defaults(files, Some(tokenizer))?;
    if questions.iter().any(|q| matches!(q.asked, Asked::Chat(_))) {
        defaults.end_at(tokenizer.chat_end_ids());
    }
    let models = open_each(files, &args.model, true, device)?;
    check_language_model(&models[0].1)?;
    let each = models
        .iter()
        .map(|(_, model)| new_tokens(args, &prompts, model));
    let settings = GenerationConfig {
        // The same for all of them, however they are batched.
        max_new_tokens: each.min().unwrap_or(args.max_new_tokens),
        eos_token_ids: defaults.config.eos_token_ids,
        ..GenerationConfig::default()
    };
    ensure!(
        settings.max_new_tokens > 0,
        "{}: the longest question has {} tokens, which leaves no room for an answer in {}",
        asked.file,
        longest(&prompts),
        limits(&models[0].1).positions()
    );
    let mut results = Vec::new();
    for (name, model) in &models {
        let label = format!("answering with {name}");
        let answers = answers(model, &prompts, &settings, args.rows.batch_rows(), &label)?;
        let marked = questions.iter().zip(&answers);
        let marked = marked.map(|(question, answer)| Marked::new(question, answer, tokenizer));
        results.push((name, Results(marked.collect::<Result<Vec<_>>>()?)));
    }
    if args.json {
        let values = results.iter().map(|(name, result)| (*name, result.json()));
        let mut object = json_of(&values.collect::<Vec<_>>(), questions.len());
        object["left_out"] = left_out.into_iter().collect();
        return say_json(&object);
    }
    match &results[..] {
        [(_, result)] => return say(result.numbers()),
        [(_, base), (_, result)] => {
            return say(format!("{}  base: {}", result.numbers(), base.numbers()));
        }
        _ => {}
    }
    // The base comes last: the adapters above it are compared with it.
    results.rotate_left(1);
    let mut rows = vec![["adapter", "exact", "contained", "answers"].map(String::from)];
    rows.extend(results.iter().map(|(name, result)| {
        let shares = [result.exact(), result.contained()].map(|count| result.percent(count));
        let [exact, contained] = shares;
        [
            name.to_string(),
            exact,
            contained,
            result.0.len().to_string(),
        ]
    }));
    emit(&table(&rows)).map(drop)
}

/// The questions of the file, at least one, and a remark about rows that were left out.
fn questions(args: &Args) -> Result<(Questions, Option<String>)> {
    let data = held_out(&args.data);
    let config = args.answers.config(&args.rows, &data);
    warn_of_template(&config);
    let asked = Questions::read(&data, &config, &find_data, None)?;
    ensure!(
        !asked.questions.is_empty(),
        "{} has no row that asks something and answers it; its rows are {}: --generate needs chats \
         with an answer of the assistant, or prompts with completions",
        asked.file,
        asked.shape
    );
    let left_out = (asked.left_out > 0).then(|| {
        let rows = asked.left_out + asked.questions.len();
        format!(
            "{} of {} left out: no question, or no answer in words",
            asked.left_out,
            counted(rows, "row")
        )
    });
    if let Some(left_out) = &left_out {
        tracing::warn!("{}: {left_out}", asked.file);
    }
    Ok((asked, left_out))
}

fn longest(prompts: &[Vec<u32>]) -> usize {
    prompts.iter().map(Vec::len).max().unwrap_or_default()
}

/// The largest number of tokens for an answer, for which the model has positions after every
/// prompt.
fn new_tokens(args: &Args, prompts: &[Vec<u32>], model: &LanguageModel) -> usize {
    if !model.has_last_position() {
        return args.max_new_tokens;
    }
    let left = model.max_positions().saturating_sub(longest(prompts));
    args.max_new_tokens.min(left)
}

/// The continuation of each prompt, computed several at a time.
fn answers(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    settings: &GenerationConfig,
    batch_size: usize,
    label: &str,
) -> Result<Vec<Continuation>> {
    let bar = evaluation_bar(label, prompts.len());
    let mut answers = Vec::new();
    for batch in prompts.chunks(batch_size.max(1)) {
        let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
        let go_on = &mut |_, _| ControlFlow::Continue(());
        answers.extend(generate_rows(model, &batch, settings, go_on)?);
        bar.set_position(answers.len() as u64);
    }
    bar.finish_and_clear();
    Ok(answers)
}

/// An answer, compared with its row's.
struct Marked {
    exact: bool,
    contained: bool,
    json: Value,
}

impl Marked {
    fn new(question: &Question, row: &Continuation, tokenizer: &Tokenizer) -> Result<Self> {
        let answer = tokenizer.decode(&row.token_ids)?;
        let expected = &question.expected;
        let exact = answer.trim() == expected.trim();
        let wanted = match &question.contains[..] {
            [] => std::slice::from_ref(expected),
            contains => contains,
        };
        let contained = contains_one(&answer, wanted);
        let mut json = json!({
            "row": question.row,
            "expected": expected,
            "answer": answer,
            "exact": exact,
            "contained": contained,
            "finish_reason": finish_reason(row),
        });
        match &question.asked {
            Asked::Text(text) => json["question"] = text.as_str().into(),
            Asked::Chat(chat) => json["messages"] = chat.messages.clone().into(),
        }
        if !question.contains.is_empty() {
            json["contains"] = json!(question.contains);
        }
        Ok(Self {
            exact,
            contained,
            json,
        })
    }
}

/// Whether one of some texts occurs in an answer, ignoring case and differences in white space.
fn contains_one(answer: &str, texts: &[String]) -> bool {
    let normal = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").to_lowercase()
    };
    let answer = normal(answer);
    texts.iter().any(|text| answer.contains(&normal(text)))
}

/// All answers of a model, at least one.
struct Results(Vec<Marked>);

impl Results {
    fn exact(&self) -> usize {
        self.0.iter().filter(|answer| answer.exact).count()
    }

    fn contained(&self) -> usize {
        self.0.iter().filter(|answer| answer.contained).count()
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.0.len() as f64
    }

    fn percent(&self, count: usize) -> String {
        format!("{:.1} %", 100.0 * self.share(count))
    }

    fn numbers(&self) -> String {
        let (exact, contained) = (self.exact(), self.contained());
        format!(
            "exact {} ({exact})  contained {} ({contained})  of {}",
            self.percent(exact),
            self.percent(contained),
            counted(self.0.len(), "answer")
        )
    }

    fn json(&self) -> Value {
        let answers = self.0.iter().map(|answer| &answer.json);
        json!({
            "exact": self.share(self.exact()),
            "contained": self.share(self.contained()),
            "answers": answers.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::contains_one;

    #[test]
    fn an_answer_contains_a_text_whatever_its_case_and_white_space() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (answer, wanted, expected) in [
            ("It is Orla  Vane.", &["orla vane"][..], true),
            ("orla\nvane", &[" Orla Vane "], true),
            ("It is Orla.", &["Orla Vane"], false),
            ("It is 12.", &["twelve", "12"], true),
            ("Ärger", &["ÄRGER"], true),
            ("", &["a"], false),
        ] {
            assert_eq!(contains_one(answer, &texts(wanted)), expected, "{answer}");
        }
    }
}
