// SPDX-License-Identifier: GPL-2.0

//! Carrying out what a guest asks for.

use zerocopy::FromZeros;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

use super::block::{
    Action, Batch, Block, Frames, Function, MAX_ENTRIES, MAX_PAGES, QueryRecord, Request, VERSION,
};
use super::page::{Page, Secret};
use super::pool::{Budget, Counts, Pool};
use super::store::{Answer, ClientId, MAX_POOLS, Store};
use super::{Epoch, Failure, OutsideStorage, PAGE_SIZE, PoolId, Storage};

/// The most pages that a call puts, gets or flushes: some milliseconds. It is enough for any one entry.
const CALL_PAGES: u64 = 512;

impl From<OutsideStorage> for Failure {
    fn from(_: OutsideStorage) -> Self {
        Self::BadAddress
    }
}

impl Store {
    /// Carries out a call of a guest on CP's copy of its block; `None` if it is not logged on any more.
    pub fn execute(
        &mut self,
        id: ClientId,
        function: Function,
        block: &mut Block,
        storage: &dyn Storage,
    ) -> Option<Answer> {
        let client = self.clients.get_mut(&id)?;
        let epoch = client.epoch;
        client.saved = None;
        let mut answer = Answer {
            rc: 0,
            stored: Vec::new(),
            gone: None,
        };
        let outcome = block
            .check(function, epoch)
            .and_then(|batch| match function {
                Function::Query => {
                    query(block, epoch);
                    Ok(())
                }
                Function::PoolCreate => self.pool_create(id, block),
                Function::PoolDestroy => {
                    let pool = block.pool().named()?;
                    let client = self.clients.get_mut(&id).ok_or(Failure::BadPool)?;
                    answer.gone = Some(client.destroy(pool)?);
                    Ok(())
                }
                Function::Batch => self.batch(id, block, batch, storage, &mut answer.stored),
                Function::Stats => self.stats(id, block),
            });
        answer.rc = Failure::code(outcome);
        Some(answer)
    }

    fn pool_create(&mut self, id: ClientId, block: &mut Block) -> Result<(), Failure> {
        let record = block.pool();
        let client = self.clients.get_mut(&id).ok_or(Failure::BadPool)?;
        let (pool, quota) = client.create(record.wanted()?)?;
        record.pool = U32::new(pool.number());
        record.quota = U64::new(quota);
        Ok(())
    }

    fn stats(&self, id: ClientId, block: &mut Block) -> Result<(), Failure> {
        let record = block.stats();
        let which = record.which()?;
        let client = self.clients.get(&id).ok_or(Failure::BadPool)?;
        let named = || {
            client
                .pools()
                .filter(|(id, _)| which.is_none_or(|which| which == *id))
        };
        if which.is_some() && named().next().is_none() {
            return Err(Failure::BadPool);
        }
        let counts = match which {
            None => client.counts(),
            Some(_) => named().fold(Counts::default(), |mut sum, (_, pool)| {
                sum += pool.counts;
                sum
            }),
        };
        record.pages = U64::new(named().map(|(_, pool)| pool.len()).sum());
        record.bytes = U64::new(named().map(|(_, pool)| pool.bytes()).sum());
        record.puts = U64::new(counts.puts);
        record.rejected = U64::new(counts.rejected);
        record.hits = U64::new(counts.hits);
        record.misses = U64::new(counts.misses);
        record.evicted = U64::new(counts.evicted);
        Ok(())
    }

    fn batch(
        &mut self,
        id: ClientId,
        block: &mut Block,
        batch: Batch,
        storage: &dyn Storage,
        stored: &mut Vec<Frames>,
    ) -> Result<(), Failure> {
        let mut budget = Budget::new(CALL_PAGES);
        for place in batch.first..batch.end {
            let entry = block.entry(place);
            let outcome = entry.decode().and_then(|request| {
                self.carry_out(id, &request, storage, &mut budget)?;
                if let Action::Get { frames, .. } = request.action {
                    stored.push(frames);
                }
                Ok(())
            });
            entry.rc = U16::new(Failure::code(outcome));
            if outcome.is_err() && batch.stop_on_error || outcome == Err(Failure::Again) {
                block.set_done(place);
                return outcome;
            }
        }
        block.set_done(batch.end);
        Ok(())
    }

    fn pool_mut(&mut self, id: ClientId, pool: PoolId) -> Result<&mut Pool, Failure> {
        let client = self.clients.get_mut(&id).ok_or(Failure::BadPool)?;
        client.pool_mut(pool)
    }

    fn carry_out(
        &mut self,
        id: ClientId,
        request: &Request,
        storage: &dyn Storage,
        budget: &mut Budget,
    ) -> Result<(), Failure> {
        let pool = self.pool_mut(id, request.pool)?;
        match request.action {
            Action::Flush => pool.flush(&request.handles, budget),
            Action::RefusedPut(failure) => {
                pool.flush(&request.handles, budget)?;
                Err(failure)
            }
            Action::Put(frames) => {
                budget.take(frames.pages())?;
                for handle in request.handles.iter() {
                    pool.remove(handle);
                }
                self.put(id, request, frames, storage)
            }
            Action::Get { frames, keep } => {
                budget.take(frames.pages())?;
                self.get(id, request, frames, keep, storage)
            }
        }
    }

    /// Puts pages whose handles have been emptied.
    fn put(
        &mut self,
        id: ClientId,
        request: &Request,
        frames: Frames,
        storage: &dyn Storage,
    ) -> Result<(), Failure> {
        storage.check(frames)?;
        let outcome = self.keep(id, request, frames, storage);
        let counts = &mut self.pool_mut(id, request.pool)?.counts;
        match outcome {
            Ok(()) => counts.puts += frames.pages(),
            Err(_) => counts.rejected += frames.pages(),
        }
        outcome
    }

    fn keep(
        &mut self,
        id: ClientId,
        request: &Request,
        frames: Frames,
        storage: &dyn Storage,
    ) -> Result<(), Failure> {
        let client = self.clients.get_mut(&id).ok_or(Failure::BadPool)?;
        let settings = client.settings;
        let pool = client.pool_mut(request.pool)?;
        let kind = pool.kind;
        if settings.frozen || pool.len() + frames.pages() > pool.quota {
            return Err(Failure::Rejected);
        }
        let mut content = Secret::zeroed(frames.bytes());
        storage.read(frames, &mut content)?;
        let pages: Vec<_> = content
            .chunks_exact(PAGE_SIZE)
            .map(|content| Page::new(content, settings.compress))
            .collect();
        if !self.make_room(id, kind, pages.iter().map(Page::cost).sum()) {
            return Err(Failure::Rejected);
        }
        let first_age = self.next_ages(frames.pages());
        let pool = self.pool_mut(id, request.pool)?;
        for ((handle, page), age) in request.handles.iter().zip(pages).zip(first_age..) {
            pool.insert(handle, page, age);
        }
        Ok(())
    }

    fn get(
        &mut self,
        id: ClientId,
        request: &Request,
        frames: Frames,
        keep: bool,
        storage: &dyn Storage,
    ) -> Result<(), Failure> {
        let first_age = self.next_ages(frames.pages());
        let pool = self.pool_mut(id, request.pool)?;
        storage.check(frames)?;
        let mut content = Secret::zeroed(frames.bytes());
        let found = request
            .handles
            .iter()
            .zip(content.chunks_exact_mut(PAGE_SIZE))
            .try_for_each(|(handle, content)| pool.get(handle)?.copy_to(content));
        if found.is_none() {
            pool.counts.misses += frames.pages();
            return Err(Failure::Miss);
        }
        storage.write(frames, &content)?;
        pool.counts.hits += frames.pages();
        for (handle, age) in request.handles.iter().zip(first_age..) {
            if keep {
                pool.refresh(handle, age);
            } else {
                pool.remove(handle);
            }
        }
        Ok(())
    }
}

fn query(block: &mut Block, epoch: Epoch) {
    block.set_epoch(epoch);
    *block.query() = QueryRecord {
        version_min: U16::new(VERSION),
        version_max: U16::new(VERSION),
        max_nr: U16::new(MAX_ENTRIES as u16),
        max_pools: U16::new(MAX_POOLS as u16),
        max_pages: U32::new(MAX_PAGES),
        features: U32::new(QueryRecord::COMPRESSED),
        rsvd: FromZeros::new_zeroed(),
    };
}
