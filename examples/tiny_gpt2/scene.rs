//! Who, where, when and in what weather: the values that one text keeps from start to end.

use rand::Rng;

use crate::grammar::{Scene, pick};

const BOYS: &[&str] = &[
    "Tom", "Ben", "Sam", "Max", "Leo", "Jack", "Finn", "Hugo", "Oscar", "Will",
];
const GIRLS: &[&str] = &[
    "Anna", "Lily", "Rose", "Mia", "Emma", "Clara", "Nora", "Ruby", "Ella", "Kate",
];

/// A noun, the phrase for being there, where things are hidden there, and what can be seen there.
const PLACES: &[[&str; 4]] = &[
    [
        "forest",
        "in the forest",
        "[under a tall tree|behind a bush|beside a fallen tree]",
        "[tall trees|red berries|green leaves|strange footprints]",
    ],
    [
        "river",
        "by the river",
        "[under the bridge|between two stones|in the wet grass]",
        "[silver fish|smooth stones|small boats|little waves]",
    ],
    [
        "lake",
        "by the lake",
        "[in the wet grass|under an old boat|behind a big stone]",
        "[silver fish|white swans|small boats|smooth stones]",
    ],
    [
        "hill",
        "on the hill",
        "[in the tall grass|behind a big stone|under a bush]",
        "[smooth stones|little birds|yellow flowers|wild berries]",
    ],
    [
        "meadow",
        "in the meadow",
        "[in the tall grass|under a bush|behind a gate]",
        "[yellow flowers|white butterflies|brown cows|red berries]",
    ],
    [
        "garden",
        "in the garden",
        "[under a bush|behind the wall|among the flowers]",
        "[red roses|white butterflies|busy bees|green leaves]",
    ],
    [
        "park",
        "in the park",
        "[under a bench|behind a bush|in the tall grass]",
        "[yellow flowers|fat ducks|tall trees|white swans]",
    ],
    [
        "farm",
        "on the farm",
        "[in the barn|behind the gate|under the hay]",
        "[brown cows|white sheep|young lambs|fat hens]",
    ],
    [
        "market",
        "at the market",
        "[under a table|behind a basket|beside the well]",
        "[red apples|fresh buns|yellow flowers|fat hens]",
    ],
    [
        "beach",
        "on the beach",
        "[in the sand|under an old boat|between two stones]",
        "[white shells|big waves|smooth stones|strange footprints]",
    ],
];

/// Adjective for a day, and a sentence about it.
const WEATHER: &[[&str; 2]] = &[
    [
        "sunny",
        "[the sun was [warm|bright]|the sky was blue] and [the birds were singing|there was not a cloud to be seen|a soft wind moved the leaves].",
    ],
    [
        "rainy",
        "[it was raining|rain was falling], and [the path was full of mud|everything was wet|the streets were empty].",
    ],
    [
        "windy",
        "the wind [was strong|blew hard], and [the leaves were dancing in the air|the trees shook|the clouds flew across the sky].",
    ],
    [
        "snowy",
        "[snow was falling|there was snow on the ground], and [everything was white|everything was quiet|the air was very cold].",
    ],
    [
        "foggy",
        "the fog was so thick that {he} could not see [the path|the trees|the houses].",
    ],
    [
        "cold",
        "the air was cold, [so {he} wore a warm coat|and {his} hands were red|but {his} coat was warm].",
    ],
    [
        "cloudy",
        "[grey clouds were in the sky|the sky was grey], but {he} [did not mind|hoped that the sun would come out].",
    ],
    [
        "warm",
        "the air was warm and [smelled of flowers|full of bees|the grass was soft].",
    ],
];

/// An animal and what it does when it is well.
const ANIMALS: &[[&str; 2]] = &[
    ["dog", "run"],
    ["cat", "jump"],
    ["rabbit", "hop"],
    ["fox", "run"],
    ["hedgehog", "walk"],
    ["duck", "swim"],
    ["goat", "jump"],
    ["mouse", "run"],
    ["bird", "fly"],
    ["frog", "hop"],
    ["squirrel", "climb"],
    ["owl", "fly"],
    ["lamb", "jump"],
    ["bear", "walk"],
    ["horse", "run"],
    ["pig", "run"],
];

/// The first this many animals are small enough to be carried.
const SMALL: usize = 13;

/// How a text may begin, up to its subject.
const OPENINGS: &str = "[one {wx} {day},|one {wx} {day},|on a {wx} {day},|early one {day},|one day,|\
    last [week|month|year],|last [Monday|Friday|Sunday],|after [school|breakfast|lunch],|\
    it was a {wx} {day}, and]";

const PET: &str =
    "[little|small|young|[brown|white|grey|black]|little [brown|white|grey]] {animal}";
const NOUN: &str = "[ball|kite|hat|scarf|book|key|bell|drum|boat|box|lamp|basket|cup|doll|whistle|\
    map|blanket|flute|ring|coin]";
const COLOUR: &str = "[red|blue|green|yellow|old|new|little|small|pretty]";
const ADULT: &str = "{his} [mother|father|grandmother|grandfather|aunt|uncle]";

const CAKE: &str = "[a cake|an apple pie|a honey cake|a cherry pie|a loaf of bread]";
const SKILL: &str = "[swim|ride a horse|play the flute|fly a kite|climb trees|row a boat|sing|dance|\
    paint|skate]";

/// Draws a scene: a child, a friend (a boy and a girl, so that every pronoun is plain), an animal
/// and another one, a thing, a place, a day and its weather.
pub fn draw(rng: &mut impl Rng) -> Scene {
    let mut scene = Scene::default();
    let (boy, girl) = (pick(BOYS, rng), pick(GIRLS, rng));
    let he = ["he", "him", "his", "himself", "boy"];
    let she = ["she", "her", "her", "herself", "girl"];
    let cast = if rng.random() {
        [(boy, he), (girl, she)]
    } else {
        [(girl, she), (boy, he)]
    };
    let [(hero, own), (friend, other)] = cast;
    scene.set("hero", hero);
    scene.set("friend", friend);
    for (key, word) in ["he", "him", "his", "himself", "child"]
        .into_iter()
        .zip(own)
    {
        scene.set(key, word);
    }
    for (key, word) in ["fhe", "fhim", "fhis", "fhimself"].into_iter().zip(other) {
        scene.set(key, word);
    }

    let first = rng.random_range(0..SMALL);
    let second = (first + rng.random_range(1..ANIMALS.len())) % ANIMALS.len();
    scene.set("animal", ANIMALS[first][0]);
    scene.set("moves", ANIMALS[first][1]);
    scene.set("other", ANIMALS[second][0]);
    scene.draw("pet", PET, rng);

    scene.draw("noun", NOUN, rng);
    scene.draw("thing", &format!("{COLOUR} {{noun}}"), rng);
    scene.draw("find", NOUN, rng);

    let [place, at, spot, seen] = PLACES[rng.random_range(0..PLACES.len())];
    scene.set("place", place);
    scene.set("at", at);
    scene.draw("spot", spot, rng);
    scene.draw("seen", seen, rng);

    let [wx, weather] = WEATHER[rng.random_range(0..WEATHER.len())];
    scene.set("wx", wx);
    scene.set("weather", weather);
    scene.draw("day", "[morning|afternoon|evening]", rng);
    scene.draw("open", OPENINGS, rng);
    scene.draw("adult", ADULT, rng);

    scene.draw("cake", CAKE, rng);
    scene.draw("skill", SKILL, rng);
    scene.set("glad", "[happy|glad|full of joy]");
    scene.set("went", "[went|walked|ran|hurried]");
    scene
}
