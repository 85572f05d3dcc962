//! Sets of small numbers that fill up roughly from below.
//!
//! The operations that have been given a place are nearly all of the early ones and a few of those that run at
//! the same time. So the full words in front are only counted, and a set is as large as the concurrency, not
//! as the history: this keeps memory and comparisons constant for each visited configuration.

/// A set of numbers. Equal sets have equal representations, so they can be compared and ordered as values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct BitSet {
    /// All numbers below 64 times this are in the set.
    full_words: usize,
    /// The numbers from there on. The first word is not full, the last is not empty.
    words: Vec<u64>,
}

impl BitSet {
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.word(number / 64) & bit(number) != 0
    }

    pub(crate) fn insert(&mut self, number: usize) {
        let Some(position) = (number / 64).checked_sub(self.full_words) else {
            return;
        };
        if self.words.len() <= position {
            self.words.resize(position + 1, 0);
        }
        self.words[position] |= bit(number);
        let full = self.words.iter().take_while(|&&word| word == u64::MAX).count();
        self.words.drain(..full);
        self.full_words += full;
    }

    pub(crate) fn len(&self) -> usize {
        self.full_words * 64 + self.words.iter().map(|word| word.count_ones() as usize).sum::<usize>()
    }

    /// The smallest number that is not in the set.
    pub(crate) fn first_absent(&self) -> usize {
        self.full_words * 64 + self.words.first().map_or(0, |word| word.trailing_ones() as usize)
    }

    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        // Below its own full words the other lacks nothing.
        (other.full_words..self.full_words + self.words.len()).all(|at| self.word(at) & !other.word(at) == 0)
    }

    fn word(&self, at: usize) -> u64 {
        match at.checked_sub(self.full_words) {
            None => u64::MAX,
            Some(position) => self.words.get(position).copied().unwrap_or(0),
        }
    }
}

fn bit(number: usize) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests;
