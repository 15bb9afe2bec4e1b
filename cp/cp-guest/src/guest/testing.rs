// SPDX-License-Identifier: GPL-2.0

//! A machine without QEMU and a system without `cpd`.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cp_core::diag::{ProgramInterruption, Register};
use cp_core::iucv::plist::Function;
use cp_core::{UserId, tmem};
use cp_proto::counters::Counter;
use cp_proto::{Accounting, Iucv, Plist, ProtoError, Report, Response, Tmem};

use super::diag::Operands;
use super::{Guest, Interrupt, Outcome, Shared};
use crate::counters::Counters;
use crate::host::{AccessException, Cpu, Host, NotDiscarded, OutsideStorage};
use crate::link::System;
use crate::page_states::{Options, Pages};

pub const STORAGE: u64 = 1 << 20;

/// Where logical addresses begin that are translated.
const LOGICAL: u64 = 1 << 40;

#[derive(Clone, Default)]
pub struct TestHost(Arc<TestHostState>);

#[derive(Default)]
pub struct TestHostState {
    pub storage: Mutex<Vec<u8>>,
    pub discarded: Mutex<Vec<(u64, u64)>>,
    pub refuse_discard: Mutex<Option<NotDiscarded>>,
    pub console: Mutex<Vec<String>>,
    pub stopped: Mutex<Vec<String>>,
    pub injected: Mutex<u32>,
    pub populated: Mutex<Vec<u64>>,
    /// Held by who keeps pages from coming.
    pub paging: Mutex<()>,
    pub paged_in: Mutex<u32>,
    /// Where and how much.
    pub written: Mutex<Vec<(u64, usize)>>,
    pub exclusive: AtomicBool,
    pub holding: AtomicBool,
    pub pinned: Mutex<Vec<u64>>,
    /// Called by [`Host::flush`], as if another CPU executed something.
    pub on_flush: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Deref for TestHost {
    type Target = TestHostState;

    fn deref(&self) -> &TestHostState {
        &self.0
    }
}

impl TestHost {
    fn with<T>(&self, address: u64, length: usize, f: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(length)?;
        self.storage.lock().unwrap().get_mut(start..end).map(f)
    }
}

impl Host for TestHost {
    fn read(&self, _: &Cpu, real: u64, buffer: &mut [u8]) -> Result<(), OutsideStorage> {
        self.with(real, buffer.len(), |bytes| buffer.copy_from_slice(bytes))
            .ok_or(OutsideStorage)
    }

    fn write(&self, _: &Cpu, real: u64, data: &[u8]) -> Result<(), OutsideStorage> {
        self.written.lock().unwrap().push((real, data.len()));
        self.with(real, data.len(), |bytes| bytes.copy_from_slice(data))
            .ok_or(OutsideStorage)
    }

    fn read_logical(
        &self,
        cpu: &Cpu,
        logical: u64,
        buffer: &mut [u8],
    ) -> Result<(), AccessException> {
        let real = logical.checked_sub(LOGICAL).ok_or(AccessException)?;
        self.read(cpu, real, buffer).map_err(|_| AccessException)
    }

    fn write_logical(&self, cpu: &Cpu, logical: u64, data: &[u8]) -> Result<(), AccessException> {
        let real = logical.checked_sub(LOGICAL).ok_or(AccessException)?;
        self.write(cpu, real, data).map_err(|_| AccessException)
    }

    fn discard(&self, address: u64, bytes: u64) -> Result<(), NotDiscarded> {
        if let Some(refusal) = *self.refuse_discard.lock().unwrap() {
            return Err(refusal);
        }
        self.discarded.lock().unwrap().push((address, bytes));
        self.with(address, bytes as usize, |bytes| bytes.fill(0))
            .ok_or(NotDiscarded)
    }

    fn populate(&self, address: u64) {
        let _paging = self.paging.lock().unwrap();
        self.populated.lock().unwrap().push(address);
    }

    fn exclusive(&self) {
        self.exclusive.store(true, Ordering::Relaxed);
    }

    fn pinned(&self, address: u64) -> bool {
        self.pinned.lock().unwrap().contains(&address)
    }

    fn flush(&self) {
        if let Some(on_flush) = &mut *self.on_flush.lock().unwrap() {
            on_flush();
        }
    }

    fn hold(&self) {
        self.holding.store(true, Ordering::Relaxed);
    }

    fn release(&self) {
        self.holding.store(false, Ordering::Relaxed);
    }

    fn inject(&self) {
        *self.injected.lock().unwrap() += 1;
    }

    fn page_in(&self) {
        *self.paged_in.lock().unwrap() += 1;
    }

    fn console(&self, line: &str) {
        self.console.lock().unwrap().push(line.into());
    }

    fn stop(&self, reason: &str) {
        self.stopped.lock().unwrap().push(reason.into());
    }
}

#[derive(Clone, Default)]
pub struct TestSystem(Arc<TestSystemState>);

#[derive(Default)]
struct TestSystemState {
    commands: Mutex<Vec<String>>,
    functions: Mutex<Vec<u64>>,
    reports: Mutex<Vec<Report>>,
    lost: AtomicBool,
}

impl TestSystem {
    fn answer<T>(&self, answer: T) -> Result<T, ProtoError> {
        if self.0.lost.load(Ordering::Relaxed) {
            Err(ProtoError::Closed)
        } else {
            Ok(answer)
        }
    }
}

impl System for TestSystem {
    fn name(&self) -> &str {
        "COOPMEM"
    }

    fn command(&self, _: u32, text: &str) -> Result<Response, ProtoError> {
        self.0.commands.lock().unwrap().push(text.into());
        self.answer(match text {
            "QUERY USERID" => Response {
                rc: 0,
                lines: vec!["LINUX01  AT COOPMEM".into()],
            },
            _ => Response {
                rc: 1,
                lines: vec!["HCPCMD001E Unknown CP command".into()],
            },
        })
    }

    fn iucv(&self, _: u32, function: u64, plist: Plist) -> Result<Result<Iucv, u16>, ProtoError> {
        self.0.functions.lock().unwrap().push(function);
        let mut outcome = Iucv {
            cc: 0,
            plist,
            r0: None,
            r1: None,
        };
        if function == Function::Query as u64 {
            (outcome.r0, outcome.r1) = (Some(40), Some(0x400));
        } else if function == Function::Connect as u64 {
            outcome.plist.0[1] = 5;
        }
        self.answer(Ok(outcome))
    }

    fn tmem(
        &self,
        _: u32,
        function: tmem::Function,
        mut block: Vec<u8>,
    ) -> Result<Result<Tmem, u16>, ProtoError> {
        block.make_ascii_uppercase();
        self.answer(match function {
            tmem::Function::Batch => Ok(Tmem {
                rc: 0x16,
                block,
                stored: tmem::Frames::new(0x9000, 2).into_iter().collect(),
            }),
            _ => Err(ProgramInterruption::Specification.code()),
        })
    }

    fn accounting(&self, _: u32, user_id: Option<UserId>) -> Result<Vec<Accounting>, ProtoError> {
        self.answer(vec![Accounting {
            user_id: user_id.unwrap_or(UserId::new("LINUX01").unwrap()),
            storage_kib: 1024,
            resident_kib: 512,
            cpu_time_us: 1,
            elapsed_us: 2,
            cpus: 2,
            host_cpus: 4,
        }])
    }

    fn report(&self, report: &Report) -> Result<(), ProtoError> {
        self.0.reports.lock().unwrap().push(report.clone());
        self.answer(())
    }

    fn reset(&self) -> Result<(), ProtoError> {
        self.answer(())
    }
}

/// A guest with two CPUs, and the registers of the first.
pub struct Machine {
    pub host: TestHost,
    pub shared: Arc<Shared<TestHost>>,
    pub guest: Guest<TestHost, TestSystem>,
    pub registers: [u64; 16],
    system: TestSystem,
}

impl Machine {
    pub fn zvm() -> Self {
        Self::with_storage(STORAGE)
    }

    pub fn with_storage(storage: u64) -> Self {
        Self::new(true, storage, Options::default())
    }

    pub fn with_options(options: Options) -> Self {
        Self::new(true, STORAGE, options)
    }

    pub fn kvm() -> Self {
        Self::new(false, STORAGE, Options::default())
    }

    fn new(zvm: bool, storage: u64, options: Options) -> Self {
        let host = TestHost::default();
        host.storage.lock().unwrap().resize(storage as usize, 0);
        let user_id = UserId::new("LINUX01").unwrap();
        let shared = Arc::new(Shared::new(
            host.clone(),
            user_id,
            2,
            Counters::new().unwrap(),
            Pages::new(storage, None, options).unwrap(),
        ));
        let system = TestSystem::default();
        let guest = Guest::new(Arc::clone(&shared), zvm.then(|| system.clone()), storage);
        Self {
            host,
            shared,
            guest,
            registers: [0; 16],
            system,
        }
    }

    pub fn cpu() -> Cpu {
        // SAFETY: There is no CPU whose thread could be another.
        unsafe { Cpu::new(0) }
    }

    /// A DIAGNOSE with Rx = 2, and Ry = 4 if register 4 is given, else 3.
    pub fn diagnose(&mut self, code: u32, registers: &[(usize, u64)]) -> Outcome {
        for &(register, value) in registers {
            self.registers[register] = value;
        }
        let ry = if registers.iter().any(|&(register, _)| register == 4) {
            4
        } else {
            3
        };
        let operands = Operands {
            rx: Register::new(2).unwrap(),
            ry: Register::new(ry).unwrap(),
        };
        self.guest
            .diagnose(&Self::cpu(), code, operands, &mut self.registers)
    }

    pub fn iucv(&mut self, function: Function, address: u64) -> Outcome {
        self.registers[0] = function as u64;
        self.iucv_as_is(address)
    }

    /// With the function code that is in register 0.
    pub fn iucv_as_is(&mut self, address: u64) -> Outcome {
        self.guest.iucv(&Self::cpu(), address, &mut self.registers)
    }

    pub fn take(&self) -> Option<Interrupt> {
        self.guest.take_interrupt(&Self::cpu())
    }

    pub fn store(&self, address: u64, bytes: &[u8]) {
        self.host.write(&Self::cpu(), address, bytes).unwrap();
    }

    pub fn load(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.host.read(&Self::cpu(), address, &mut bytes).unwrap();
        bytes
    }

    /// The logical address of a real one.
    pub fn logical(real: u64) -> u64 {
        LOGICAL + real
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.shared.counters().get(counter)
    }

    pub fn commands(&self) -> Vec<String> {
        self.system.0.commands.lock().unwrap().clone()
    }

    pub fn functions(&self) -> Vec<u64> {
        self.system.0.functions.lock().unwrap().clone()
    }

    pub fn reports(&self) -> Vec<Report> {
        self.system.0.reports.lock().unwrap().clone()
    }

    pub fn lose_cpd(&self) {
        self.system.0.lost.store(true, Ordering::Relaxed);
    }
}
