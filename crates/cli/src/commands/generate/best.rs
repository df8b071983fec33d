//! `--best-of N --reward DIR`: of several continuations, shows the one with the highest reward.

use std::path::Path;

use anyhow::{Result, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, Example, with_eos};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{CausalLm, LanguageModel};
use burn_peft_train::{limits, read_all, text_scores};
use serde_json::{Map, Value, json};

use super::prompts::Prompt;
use super::text::{Answer, Request};
use crate::loading::{KeptArgs, open};
use crate::output::{say, say_json};

/// How many texts are scored together.
const TOGETHER: usize = 8;

/// Where the reward model is.
pub(super) struct Judge<'a> {
    pub files: &'a ModelFiles,
    pub reward: &'a Path,
    pub device: &'a Device,
}

/// Continues every prompt this many times, and shows the best.
pub(super) fn run(
    mut request: Request<'_>,
    models: Vec<(String, LanguageModel)>,
    count: usize,
    judge: &Judge<'_>,
) -> Result<()> {
    let [(_, model)] = &models[..] else {
        anyhow::bail!("--best-of ranks what one model says: give one --adapter, or none");
    };
    let options = &request.args.options;
    let settings = options.settings(&request.defaults, model, 0);
    ensure!(
        count == 1 || settings.temperature > 0.0,
        "--best-of ranks different texts, and always with the most likely token all are the same: give \
         --temperature, such as 1"
    );
    let prompts = request.prompts.clone();
    let each = prompts
        .iter()
        .flat_map(|prompt| vec![prompt.clone(); count]);
    request.prompts = each.collect();
    let answers = request.answers(model, &mut |_| Ok(true))?;
    // One model at a time.
    drop(models);
    let rewards = judge.rewards(&request, &answers)?;
    let mut answers: Vec<(Answer, f64)> = answers.into_iter().zip(rewards).collect();
    let mut best = Vec::new();
    for _ in &prompts {
        let mut rest = answers.split_off(count);
        std::mem::swap(&mut rest, &mut answers);
        rest.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        best.push(rest);
    }
    if request.args.json {
        let best = best.into_iter().map(ranked).collect();
        return say_json(&Value::Array(best));
    }
    let best = best.iter().filter_map(|ranked| ranked.first());
    let texts = best.map(|(answer, reward)| format!("{}\n(reward {reward:.3})", answer.whole()));
    say(texts.collect::<Vec<_>>().join("\n\n"))
}

/// The best of several continuations with its reward, and all of them as `candidates`.
fn ranked(ranked: Vec<(Answer, f64)>) -> Value {
    let short = |(answer, reward): &(Answer, f64)| json!({"text": answer.text, "reward": reward});
    let candidates: Vec<Value> = ranked.iter().map(short).collect();
    let first = ranked.into_iter().next();
    let mut object = match first {
        Some((answer, reward)) => {
            let mut object = answer.json;
            object["reward"] = reward.into();
            object
        }
        None => Value::Object(Map::new()),
    };
    object["candidates"] = candidates.into();
    object
}

impl Judge<'_> {
    /// The reward of each continuation with its prompt.
    fn rewards(&self, request: &Request<'_>, answers: &[Answer]) -> Result<Vec<f64>> {
        let model = open(
            self.files,
            Some(self.reward),
            &KeptArgs::default(),
            self.device,
        )?
        .no_grad()
        .valid();
        let head = model.head();
        ensure!(
            head.task == TaskType::SeqCls && head.num_labels() == 1,
            "{} is not a reward model: name an adapter that was trained with training.objective = \
             \"reward\"",
            self.reward.display()
        );
        let most = limits(&model).max_positions;
        let texts = request.prompts.iter().zip(answers);
        let texts = texts.map(|(prompt, answer)| {
            let mut ids = self.text(request, prompt, answer)?;
            // The end determines the reward.
            ids.drain(..ids.len().saturating_sub(most));
            let labels = ids.iter().map(|&id| i64::from(id)).collect();
            Ok(Example {
                input_ids: ids,
                labels,
                row: 1,
            })
        });
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let mut rewards = Vec::new();
        for texts in texts.chunks(TOGETHER) {
            let scores = text_scores(&model, &Batch::collate(texts, 0, None));
            rewards.extend(read_all(scores)?);
        }
        Ok(rewards)
    }

    /// The tokens of a prompt with its continuation, in the form that a reward model is trained on.
    fn text(&self, request: &Request<'_>, prompt: &Prompt, answer: &Answer) -> Result<Vec<u32>> {
        let tokenizer = request.tokenizer;
        if let Some(messages) = &prompt.messages {
            let said = json!({"role": "assistant", "content": answer.text});
            let messages = [&messages[..], &[said]].concat();
            return Ok(tokenizer.chat_prompt(&messages, &Map::new(), false)?);
        }
        Ok(with_eos(tokenizer.encode(&answer.whole())?, tokenizer))
    }
}
