//! Replaces minijinja's instructions by ones that behave like Python and respect the limits.

use super::access::may_be_method;
use super::operators::{
    ADD, AT_LEAST, AT_MOST, ATTRIBUTE, CONCAT, EQUAL, GREATER, IN, ITEM, LESS, LIST, LOOP, MAP,
    MULTIPLY, REMAINDER, SLICE, TUPLE, UNEQUAL,
};
use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::Value;

fn becomes_two(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::EmitRaw(_) | Instruction::PushLoop(_) => true,
        Instruction::GetAttr(name) => may_be_method(name),
        _ => false,
    }
}

/// A template's instructions, in which the filters of [`operators`](super::operators) take the
/// place of whatever makes or iterates over large values, and of whatever Python does differently.
///
/// # Errors
/// If an instruction has no such filter; the error has its line.
pub(super) fn exchange<'a>(
    template: &Instructions<'a>,
) -> Result<Instructions<'a>, (&'static str, usize)> {
    // The new position of each instruction: some become two.
    let (mut places, mut place) = (Vec::new(), 0);
    while let Some(instruction) = template.get(places.len() as u32) {
        places.push(place);
        place += if becomes_two(instruction) { 2 } else { 1 };
    }
    let to = |target: u32| places.get(target as usize).copied().unwrap_or(place);
    let mut exchanged = Instructions::new(template.name(), template.source());
    let mut at = 0;
    while let Some(instruction) = template.get(at) {
        let line = template.get_line(at).unwrap_or(0).min(u16::MAX.into()) as u16;
        let refused = |what| (what, usize::from(line));
        let of = |count: usize| {
            let counted = u16::try_from(count);
            counted.map_err(|_| refused("lists more than 65535 things"))
        };
        // The last number would name a slot for the filter; this value means none.
        let filter = |name, count| Instruction::ApplyFilter(name, Some(count), !0);
        let instruction = match instruction {
            Instruction::EmitRaw(text) => {
                let text = Value::from_safe_string((*text).to_owned());
                exchanged.add_with_line(Instruction::LoadConst(text), line);
                Instruction::Emit
            }
            Instruction::GetAttr(name) if may_be_method(name) => {
                exchanged.add_with_line(Instruction::LoadConst((*name).into()), line);
                filter(ATTRIBUTE, 2)
            }
            Instruction::PushLoop(flags) => {
                exchanged.add_with_line(filter(LOOP, 1), line);
                Instruction::PushLoop(*flags)
            }
            Instruction::Iterate(target) => Instruction::Iterate(to(*target)),
            Instruction::Jump(target) => Instruction::Jump(to(*target)),
            Instruction::JumpIfFalse(target) => Instruction::JumpIfFalse(to(*target)),
            Instruction::JumpIfFalseOrPop(target) => Instruction::JumpIfFalseOrPop(to(*target)),
            Instruction::JumpIfTrueOrPop(target) => Instruction::JumpIfTrueOrPop(to(*target)),
            Instruction::BuildMacro(name, target, flags) => {
                Instruction::BuildMacro(name, to(*target), *flags)
            }
            Instruction::StringConcat => filter(CONCAT, 2),
            Instruction::Add => filter(ADD, 2),
            Instruction::Mul => filter(MULTIPLY, 2),
            Instruction::Rem => filter(REMAINDER, 2),
            Instruction::Eq => filter(EQUAL, 2),
            Instruction::Ne => filter(UNEQUAL, 2),
            Instruction::Lt => filter(LESS, 2),
            Instruction::Lte => filter(AT_MOST, 2),
            Instruction::Gt => filter(GREATER, 2),
            Instruction::Gte => filter(AT_LEAST, 2),
            Instruction::GetItem => filter(ITEM, 2),
            Instruction::In => filter(IN, 2),
            Instruction::Slice => filter(SLICE, 4),
            Instruction::BuildList(Some(count @ 1..)) => filter(LIST, of(*count)?),
            Instruction::BuildTuple(Some(count @ 1..)) => filter(TUPLE, of(*count)?),
            Instruction::BuildMap(count @ 1..) => filter(MAP, of(2 * *count)?),
            Instruction::UnpackLists(_) => return Err(refused("unpacks a list with *")),
            Instruction::Include(_) | Instruction::LoadBlocks | Instruction::CallBlock(_) => {
                return Err(refused("is made of other templates or of blocks"));
            }
            Instruction::PushAutoEscape => return Err(refused("switches autoescape on")),
            other => other.clone(),
        };
        exchanged.add_with_line(instruction, line);
        at += 1;
    }
    Ok(exchanged)
}
