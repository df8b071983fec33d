//! Interpreting a line: a message to be answered, or a command.

use anyhow::{Result, bail, ensure};

use super::answer::{Answer, Finish};
use super::conversation::quoted;
use super::talk::{Talk, note};
use super::{save, template};
use crate::interrupt::Stop;
use crate::output::{counted, emit, say};

/// The commands, with their arguments and descriptions.
const COMMANDS: [(&str, &str, &str); 7] = [
    (
        "/system",
        "TEXT",
        "change the system message; without TEXT it is removed",
    ),
    ("/reset", "", "start over; the system message stays"),
    ("/undo", "", "take the last message and its answer back"),
    (
        "/adapter",
        "NAME|base",
        "choose who answers from here on; the conversation stays",
    ),
    (
        "/save",
        "FILE.jsonl",
        "append the conversation as a row that trains",
    ),
    ("/help", "", "list the commands"),
    ("/exit", "", "leave, as Ctrl-D does"),
];

/// Carries out what a line asks for.
pub fn obey(talk: &mut Talk, line: &str, json: bool, stop: Option<&Stop>) -> Result<()> {
    let Some(rest) = line.strip_prefix('/') else {
        return answer(talk, line.trim(), json, stop);
    };
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let argument = argument.trim();
    match name {
        "system" => system(talk, argument),
        "adapter" => adapter(talk, argument),
        "save" => {
            ensure!(
                !argument.is_empty(),
                "/save needs a file: /save chats.jsonl"
            );
            let messages = talk.conversation.messages();
            ensure!(
                !talk.conversation.turns.is_empty(),
                "nothing was said yet that could be saved"
            );
            let file = save::path(argument);
            let rows = save::append(&file, &messages)?;
            let messages = counted(messages.len(), "message");
            note(format!("{}: row {rows} has {messages}", file.display()));
            Ok(())
        }
        _ if !is_known(name) => bail!(
            "there is no command /{name}, and nothing was sent (a line that begins with a space is \
             sent as it is); the commands are:\n{}",
            list()
        ),
        _ if !argument.is_empty() => {
            bail!("/{name} takes no argument: what is {}?", quoted(argument))
        }
        "reset" => {
            let turns = talk.conversation.turns.len();
            talk.conversation.reset();
            note(format!("{} forgotten", counted(2 * turns, "message")));
            Ok(())
        }
        "undo" => match talk.conversation.undo() {
            Some(turn) => {
                note(format!(
                    "taken back: {}, with the answer",
                    quoted(&turn.user)
                ));
                Ok(())
            }
            None => bail!("there is no message to take back"),
        },
        "exit" => {
            talk.leave();
            Ok(())
        }
        _ => {
            note(list());
            Ok(())
        }
    }
}

fn is_known(name: &str) -> bool {
    COMMANDS.iter().any(|(command, ..)| command[1..] == *name)
}

/// The commands, one on each line.
fn list() -> String {
    let lines = COMMANDS.map(|(name, argument, does)| {
        let call = format!("{name} {argument}");
        format!("  {call:20} {does}")
    });
    lines.join("\n")
}

fn system(talk: &mut Talk, text: &str) -> Result<()> {
    let place = &mut talk.conversation.system;
    match (text, &place) {
        ("", None) => note("there is no system message except the template's own"),
        ("", Some(system)) => note(format!("the system message is: {system}")),
        ("none", _) => {
            *place = None;
            note("there is no system message now");
        }
        (text, _) => {
            template::takes_system(&talk.tokenizer, text)?;
            *place = Some(text.into());
            note("the system message has changed; the conversation stays");
        }
    }
    Ok(())
}

fn adapter(talk: &mut Talk, name: &str) -> Result<()> {
    if !name.is_empty() {
        talk.voices.switch(name)?;
    }
    let current = &talk.voices.current().name;
    let names = talk.voices.names().join(", ");
    note(format!("{current} answers (of {names})"));
    Ok(())
}

/// Answers a message on standard output.
fn answer(talk: &mut Talk, user: &str, json: bool, stop: Option<&Stop>) -> Result<()> {
    let mut show = |piece: &str| if json { Ok(true) } else { emit(piece) };
    let answer = match stop {
        Some(stop) => stop.during(|| talk.say(user, Some(stop), &mut show)),
        None => talk.say(user, None, &mut show),
    }?;
    if json {
        let several = talk.voices.all().len() > 1;
        let adapter = several.then(|| talk.voices.current().name.as_str());
        if !emit(&format!("{}\n", answer.json(adapter)))? {
            talk.leave();
        }
    } else {
        // At a terminal an empty line follows the answer.
        say(if stop.is_some() { "\n" } else { "" })?;
        tell_end(&answer);
    }
    tracing::info!(
        "{} of the prompt's {} tokens were computed",
        answer.computed_tokens,
        answer.prompt_tokens
    );
    Ok(())
}

/// If an answer was cut off, says why.
fn tell_end(answer: &Answer) {
    match answer.finish {
        Finish::Stop => {}
        Finish::Length => note(format!(
            "(cut off after {}: --max-new-tokens, or the end of the model's positions)",
            counted(answer.completion_tokens, "token")
        )),
        Finish::Interrupted if answer.is_empty() => {
            note("(stopped before anything was said: the message is taken back)");
        }
        Finish::Interrupted => note("(stopped)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_command_on_a_line() {
        assert_eq!(list().lines().count(), COMMANDS.len());
        assert!(
            list().starts_with("  /system TEXT         change"),
            "{}",
            list()
        );
        assert!(is_known("undo") && !is_known("undone") && !is_known(""));
    }
}
