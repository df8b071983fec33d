//! A session computes nothing twice, and gives the same text as a start from scratch.

use std::ops::ControlFlow;

use burn::module::Module;
use burn_peft::{PrefixTuningConfig, PromptTuningConfig, get_peft_model};
use burn_peft_models::{CausalLm, GenerationConfig, Session, generate};

use crate::common::device;
use crate::families::{Case, each};

const NEW: usize = 4;

fn settings() -> GenerationConfig {
    GenerationConfig {
        max_new_tokens: NEW,
        ..Default::default()
    }
}

/// Tokens without a pattern.
fn tokens(count: usize, seed: usize) -> Vec<u32> {
    let next = |at: usize| ((at + seed) * 7919 + 13 * seed) % 90 + 3;
    (0..count).map(|at| next(at) as u32).collect()
}

/// A conversation: turns are added, removed and replaced, and one shares nothing with the others.
/// `reuses` is false if the length of a text changes how the model computes its beginning.
fn converse(model: &impl CausalLm, reuses: bool) -> Result<(), String> {
    let mut session = Session::default();
    // The tokens that are computed already: all but the last token of an answer, which was only
    // chosen.
    let mut known: Vec<u32> = Vec::new();
    let mut says = |prompt: &[u32]| {
        let go_on = &mut |_| ControlFlow::Continue(());
        let fresh = generate(model, prompt, &settings(), go_on).unwrap();
        let found = session
            .generate(model, prompt, &settings(), go_on)
            .unwrap()
            .token_ids;
        if found != fresh {
            return Err(format!("{prompt:?}: {found:?} in place of {fresh:?}"));
        }
        let same = prompt.iter().zip(&known).take_while(|(a, b)| a == b);
        let new = prompt.len() - same.count().min(prompt.len() - 1);
        let computed = (session.computed_for_prompt(), session.computed());
        let expected = (new, new + NEW - 1);
        if reuses && computed != expected {
            return Err(format!(
                "{prompt:?}: {computed:?} positions in place of {expected:?}"
            ));
        }
        known = [prompt, &fresh[..NEW - 1]].concat();
        Ok(fresh)
    };
    let first = tokens(5, 1);
    let answer = says(&first)?;
    let second = [&first[..], &answer, &tokens(6, 2)].concat();
    let answer = says(&second)?;
    let third = [&second[..], &answer, &tokens(8, 3)].concat();
    says(&third)?;
    // The last turn is replaced by another; then the same is sent again.
    let other = [&second[..], &answer, &tokens(7, 4)].concat();
    says(&other)?;
    says(&other)?;
    // Much is removed: a short text after a long one.
    says(&[&first[..], &tokens(2, 5)].concat())?;
    says(&tokens(9, 6))?;
    says(&third)?;
    Ok(())
}

fn converses(case: &Case) -> Result<(), String> {
    let of_length = ["dynamic", "longrope"].contains(&case.rope_type().as_str());
    let model = case.adapted().no_grad();
    converse(&model, !of_length)?;
    converse(model.get_base_model(), !of_length)?;
    device().seed(5);
    let model = get_peft_model(case.model(), PrefixTuningConfig::new(3)).unwrap();
    converse(&model.no_grad(), !of_length).map_err(|error| format!("prefix tuning: {error}"))?;
    let model = get_peft_model(case.model(), PromptTuningConfig::new(3)).unwrap();
    converse(&model.no_grad(), !of_length).map_err(|error| format!("prompt tuning: {error}"))
}

#[test]
fn every_family_goes_on_as_from_scratch() {
    each(converses);
}

/// After a stop, the cache has everything computed so far. After an error, it has nothing wrong.
#[test]
fn a_session_goes_on_after_a_stop_and_after_an_error() {
    let model = crate::conformance::base();
    let mut session = Session::default();
    let prompt = tokens(6, 1);
    let mut said = Vec::new();
    let stopped = session.generate(&model, &prompt, &settings(), &mut |id| {
        said.push(id);
        match said.len() {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.token_ids, stopped.ended_by), (said.clone(), None));
    let go_on = &mut |_| ControlFlow::Continue(());
    let next = [&prompt[..], &said, &tokens(3, 2)].concat();
    let found = session.generate(&model, &next, &settings(), go_on).unwrap();
    assert_eq!(
        found.token_ids,
        generate(&model, &next, &settings(), go_on).unwrap()
    );
    assert_eq!(session.computed_for_prompt(), 4);

    let unknown = [&next[..], &[u32::MAX]].concat();
    session
        .generate(&model, &unknown, &settings(), go_on)
        .unwrap_err();
    let again = session.generate(&model, &next, &settings(), go_on).unwrap();
    assert_eq!(again, found);

    // A token that ends the text is not part of it.
    let ends = GenerationConfig {
        eos_token_ids: vec![found.token_ids[1]],
        ..settings()
    };
    let ended = session.generate(&model, &next, &ends, go_on).unwrap();
    assert_eq!(ended.ended_by, Some(found.token_ids[1]));
    assert!(found.token_ids.starts_with(&ended.token_ids));
}
