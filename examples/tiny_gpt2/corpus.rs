//! The stories of the pre-training corpus: plain third-person English. In some of them a sailor
//! speaks, so that the corpus contains the words of the fine-tuning set.

mod home;
mod outdoors;

use home::*;
use outdoors::*;
use rand::Rng;

use crate::grammar::tell;
use crate::{sailor, scene};

/// The beats of a plot, in order; each is told in one of the ways listed.
type Plot = &'static [&'static [&'static str]];

/// Tells one story.
pub fn story(rng: &mut impl Rng) -> String {
    let mut scene = scene::draw(rng);
    sailor::speak(&mut scene, "friend");
    let plot = PLOTS[rng.random_range(0..PLOTS.len())];
    tell(plot, &scene, rng)
}

const PLOTS: &[Plot] = &[
    LOST, HURT, BAKING, NOISE, SKILL, QUARREL, SEED, STORM, BIRTHDAY, HARBOUR, HARBOUR, TALE, TALE,
    FABLE, FABLE, RAINY_DAY, SCHOOL, VISIT, STARS, WORK, RACE, FISHING, STREAM, WALK, WALK, MARKET,
    STRANGER,
];
