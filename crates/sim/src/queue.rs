//! What is still to happen, in the order of simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events to come. Those of the same moment come in the order they were added.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Time, number, slot: small, because a heap moves its elements about.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    added: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), added: 0 }
    }

    /// Has `event` happen at `at_us`.
    pub(crate) fn add(&mut self, at_us: u64, event: E) {
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(event);
            slot
        } else {
            self.slots.push(Some(event));
            self.slots.len() as u32 - 1
        };
        self.added += 1;
        self.heap.push(Reverse((at_us, self.added, slot)));
    }

    /// When the next event happens.
    pub(crate) fn next_at_us(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_us, _, _))| *at_us)
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse((at_us, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let event = self.slots[slot as usize].take().expect("a slot in the heap is taken");
        Some((at_us, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_added() {
        let mut queue = Queue::new();
        for (at_us, event) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            queue.add(at_us, event);
        }
        assert_eq!(queue.next_at_us(), Some(1));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, "a"), (3, "b"), (5, "c"), (5, "d")]);
    }
}
