//! A tokenizer's chat template (Jinja), and which part of the rendered text the assistant says.

use crate::error::TemplateProblem;
use crate::format::REASONING;
use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as Jinja};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

mod access;
mod arguments;
mod bounds;
mod budget;
mod exchange;
mod filters;
mod functions;
mod json;
mod marks;
mod methods;
mod operators;
mod python;
mod spans;

use self::budget::{BYTES, STEPS};
use self::marks::{BEGIN, END};

/// The longest text of a chat in bytes, about two million tokens; tokenising takes many times as
/// much memory.
const TEXT: usize = 8 << 20;

/// How much of that a template may write by itself, in bytes, whatever the chat says.
const OWN_TEXT: usize = 256 << 10;

/// A message of a chat, as templates take it.
pub fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// A tokenizer's `chat_template`, rendered as transformers' `apply_chat_template` does.
///
/// ```
/// use burn_peft_data::ChatTemplate;
/// use serde_json::{Map, json};
///
/// let source = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}";
/// let template = ChatTemplate::new(source, "mine", Map::new())?;
/// let messages = [json!({"role": "user", "content": "Hello"})];
/// assert_eq!(template.render(&messages, &Map::new(), false)?, "user: Hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    syntax: SyntaxConfig,
    source: String,
    /// The source, with marks in place of `{% generation %}`.
    marked: String,
    /// Where it was read from, for errors.
    origin: String,
    /// `bos_token`, `eos_token` and so on.
    special_tokens: Map<String, Value>,
}

/// A compiled template. It borrows its source, so it lives no longer than one chat.
struct Compiled<'a> {
    template: &'a ChatTemplate,
    instructions: Instructions<'a>,
    /// Always empty: a template with blocks is rejected.
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

impl ChatTemplate {
    /// Compiles a template. `origin` is its name in errors; `special_tokens` are its variables
    /// `bos_token`, `eos_token` and so on.
    ///
    /// # Errors
    /// If the template is not valid Jinja, or uses something that is not supported.
    pub fn new(
        source: &str,
        origin: &str,
        special_tokens: Map<String, Value>,
    ) -> Result<Self, TemplateProblem> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        budget::limit(&mut environment);
        operators::add_to(&mut environment);
        filters::add_to(&mut environment);
        functions::add_to(&mut environment);
        // Jinja2 reads every kind of line end as `\n`.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let template = Self {
            environment,
            syntax: syntax.map_err(|error| TemplateProblem::Syntax(error.to_string()))?,
            source: source.into(),
            marked: marks::mark_generation(&lines),
            origin: origin.into(),
            special_tokens,
        };
        template.compile()?;
        Ok(template)
    }

    /// Everything that the result depends on.
    pub(crate) fn identity(&self) -> (&str, &Map<String, Value>) {
        (&self.source, &self.special_tokens)
    }

    fn compile(&self) -> Result<Compiled<'_>, TemplateProblem> {
        if let Some(problem) = bounds::exceeded(&self.marked, &self.syntax, &self.origin) {
            return Err(problem);
        }
        let unsupported = |(what, line)| TemplateProblem::Unsupported {
            origin: self.origin.clone(),
            what,
            line,
        };
        let instructions = self.guarded(|| {
            let (name, syntax) = ("chat_template", self.syntax.clone());
            let parsed = machinery::parse(&self.marked, name, syntax)?;
            let mut generator = CodeGenerator::new(name, &self.marked);
            generator.compile_stmt(&parsed);
            Ok(generator.finish().0)
        })?;
        Ok(Compiled {
            template: self,
            instructions: exchange::exchange(&instructions).map_err(unsupported)?,
            blocks: BTreeMap::new(),
        })
    }

    /// Compiles the template; minijinja may panic, even on a valid one.
    fn guarded<T>(&self, job: impl FnOnce() -> Result<T, Error>) -> Result<T, TemplateProblem> {
        match catch_unwind(AssertUnwindSafe(job)) {
            Ok(done) => done.map_err(|error| self.explain(&error)),
            Err(_) => Err(TemplateProblem::Panic {
                origin: self.origin.clone(),
            }),
        }
    }

    /// The message of an exception that the template raises, or what is wrong with the template.
    fn explain(&self, error: &Error) -> TemplateProblem {
        let origin = self.origin.clone();
        if error.kind() == ErrorKind::OutOfFuel {
            return TemplateProblem::OutOfBudget {
                origin,
                steps: STEPS,
                megabytes: BYTES >> 20,
            };
        }
        TemplateProblem::Fails {
            origin,
            error: error.to_string(),
        }
    }

    /// Renders messages as text. `extras` are further variables of the template: `tools`,
    /// `documents`, or its own switches.
    ///
    /// # Errors
    /// If the template raises an exception, or takes longer or makes more text than a chat can
    /// need.
    pub fn render(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateProblem> {
        let messages: Vec<Value> = messages.iter().map(without_none).collect();
        self.written(&messages, extras, add_generation_prompt)
    }

    /// As [`render`](Self::render), for messages in the template's own terms: in some of them
    /// `content` is none.
    pub(crate) fn written(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateProblem> {
        self.compile()?
            .render(messages, extras, add_generation_prompt)
    }
}

/// The longest text of a chat: eight times what is said in it, since it may be escaped and
/// indented, and what the template itself may add.
fn most_text(said: &Map<String, Value>) -> usize {
    let said = serde_json::to_string(said).map_or(0, |said| said.len());
    TEXT.min(OWN_TEXT + said.saturating_mul(8))
}

impl Compiled<'_> {
    /// Renders messages; the assistant's parts are enclosed in marks if the template has them.
    fn marked(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateProblem> {
        let mut context = self.template.special_tokens.clone();
        for name in ["tools", "documents"] {
            context.insert(name.into(), Value::Null);
        }
        context.extend(extras.clone());
        let messages: Vec<Value> = messages.iter().map(reasoned).collect();
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let most = most_text(&context);
        let mut text = String::new();
        self.template.guarded(|| {
            let rendered = machinery::eval(
                &self.template.environment,
                &self.instructions,
                Jinja::from(Serde(context)),
                &self.blocks,
                &mut machinery::make_string_output(&mut text),
                AutoEscape::None,
            );
            rendered.map(drop)
        })?;
        match text.len() {
            bytes if bytes > most => Err(TemplateProblem::TooMuchText { bytes, most }),
            _ => Ok(text),
        }
    }

    /// Renders messages as text.
    fn render(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateProblem> {
        let text = self.marked(messages, extras, add_generation_prompt)?;
        Ok(text.replace([BEGIN, END], ""))
    }
}

/// A message without the keys whose value is none, which transformers leaves out.
pub(super) fn without_none(message: &Value) -> Value {
    let Some(keys) = message.as_object() else {
        return message.clone();
    };
    let said = keys.iter().filter(|(_, value)| !value.is_null());
    let said: Map<String, Value> = said
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    said.into()
}

/// A message with its reasoning under each of the names that templates use, as transformers passes
/// it to a template.
fn reasoned(message: &Value) -> Value {
    let said = |name: &&str| message.get(*name).filter(|value| !value.is_null());
    let reasoning = REASONING.iter().find_map(said);
    let (Some(keys), Some(reasoning)) = (message.as_object(), reasoning) else {
        return message.clone();
    };
    let mut all = Map::from_iter([("thinking".to_owned(), reasoning.clone())]);
    all.extend(keys.clone());
    all.insert("reasoning_content".into(), reasoning.clone());
    all.into()
}

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod jinja2_tests;
#[cfg(test)]
mod spans_tests;
#[cfg(test)]
mod tests;
