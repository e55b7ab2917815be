//! How Stripe may deliver a history: in any order, with repeats, in either shape, in any portions.

use crate::model::history::Happened;
use crate::render::{Shape, render};

/// Some deliveries, after which the issuer works until idle.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    pub bodies: Vec<Vec<u8>>,
    /// The issuer was restarted before it read them.
    pub restart: bool,
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Natural,
    Reversed,
    Shuffled,
}

/// In which renderings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shapes {
    Only(Shape),
    /// Each event in one of both, or in both.
    Mixed,
}

/// How a history is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub order: Order,
    pub shapes: Shapes,
    /// Each event up to this often.
    pub times: usize,
    /// Everything at once, one by one, or in portions of about this size.
    pub portion: usize,
    pub seed: u64,
}

impl Delivery {
    /// The deliveries of a history.
    pub fn of(&self, history: &[Happened]) -> Vec<Chunk> {
        let mut chance = Chance(self.seed);
        let events: Vec<_> = history.iter().map(|happened| self.bodies(happened, &mut chance)).collect();
        self.chunks(events, &mut chance)
    }

    /// The deliveries of events that are given in one or more renderings each.
    pub fn of_bodies(&self, events: Vec<Vec<Vec<u8>>>) -> Vec<Chunk> {
        self.chunks(events, &mut Chance(self.seed))
    }

    fn bodies(&self, happened: &Happened, chance: &mut Chance) -> Vec<Vec<u8>> {
        let shapes = match self.shapes {
            Shapes::Only(shape) => vec![shape],
            Shapes::Mixed => match chance.below(3) {
                0 => vec![Shape::Old],
                1 => vec![Shape::New],
                _ => vec![Shape::Old, Shape::New],
            },
        };
        let bodies: Vec<_> = shapes.iter().filter_map(|shape| render(happened, *shape)).collect();
        // What only one version has still comes from the endpoint that is pinned to it.
        if bodies.is_empty() && self.shapes == Shapes::Mixed {
            return render(happened, Shape::New).into_iter().collect();
        }
        bodies
    }

    fn chunks(&self, events: Vec<Vec<Vec<u8>>>, chance: &mut Chance) -> Vec<Chunk> {
        let mut deliveries = Vec::new();
        for body in events.into_iter().flatten() {
            for _ in 0..=chance.below(self.times) {
                deliveries.push(body.clone());
            }
        }
        match self.order {
            Order::Natural => {}
            Order::Reversed => deliveries.reverse(),
            Order::Shuffled => chance.shuffle(&mut deliveries),
        }
        let mut chunks = vec![Chunk::default()];
        for body in deliveries {
            let chunk = chunks.last_mut().unwrap();
            chunk.bodies.push(body);
            if chance.below(self.portion) == 0 {
                let restart = chance.below(4) == 0;
                chunks.push(Chunk { bodies: Vec::new(), restart });
            }
        }
        chunks.retain(|chunk| !chunk.bodies.is_empty());
        chunks
    }
}

/// Chance from a seed, the same on every machine (the generator known as `SplitMix64`).
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}
