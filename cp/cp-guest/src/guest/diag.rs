// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE.

use std::num::NonZero;
use std::thread;
use std::time::{Duration, SystemTime};

use cp_core::diag::command::{self, Command, Destination};
use cp_core::diag::release::PageRange;
use cp_core::diag::{
    Diagnose, ProgramInterruption, accounting, monitor, page_reference, partition, segment, timing,
    tmem,
};
use cp_core::ebcdic;
use cp_core::tmem::{BLOCK_LENGTH, Frames, PAGE_SIZE};
use cp_proto::counters::Counter;
use cp_proto::{Accounting, ProtoError, Response};
use rustix::time::{ClockId, clock_gettime};
use zerocopy::IntoBytes;

use super::{Exception, Guest, Outcome, Shared};
use crate::host::{Cpu, Host};
use crate::link::System;

impl<H: Host, S: System> Guest<H, S> {
    /// DIAGNOSE `code` on a CPU, with its registers.
    ///
    /// Guests of z/VM have all codes that this CP knows, guests of KVM only X'10'.
    pub fn diagnose(
        &self,
        cpu: &Cpu,
        code: u32,
        diagnose: Operands,
        registers: &mut [u64; 16],
    ) -> Outcome {
        let operands = Diagnose {
            rx: diagnose.rx,
            ry: diagnose.ry,
            registers: &*registers,
        };
        let changes = match (code, &self.system) {
            (0x10, _) => self.release(&operands),
            (0x08, Some(system)) => self.command(cpu, system, &operands),
            (0x0c, Some(_)) => self.timing(cpu, &operands),
            (0x64, Some(_)) => self.segment(&operands),
            (0xdc, Some(_)) => self.monitor(cpu, &operands),
            (tmem::CODE, Some(system)) => self.tmem(cpu, system, &operands),
            (0x204, Some(system)) => self.partition(cpu, system, &operands),
            (page_reference::CODE, Some(_)) => self.page_reference(cpu, &operands),
            (0x2fc, Some(system)) => self.accounting(cpu, system, &operands),
            _ => {
                self.count(Counter::DiagUnknown);
                Err(Exception::Unknown)
            }
        }?;
        for (register, value) in changes.registers.into_iter().flatten() {
            registers[register.index()] = value;
        }
        Ok(changes.cc)
    }

    fn count(&self, counter: Counter) {
        self.shared.counters.add(counter, 1);
    }

    /// X'10': release pages.
    fn release(&self, operands: &Diagnose<'_>) -> Result<Changes, Exception> {
        self.count(Counter::Diag10Calls);
        let released = PageRange::decode(operands, self.storage).and_then(|range| {
            let Shared { host, pages, .. } = &*self.shared;
            // A guest that is told so goes on without; one that is not would believe its balloon to be of use.
            pages
                .release(host, range.start(), range.bytes())
                .map_err(|_| ProgramInterruption::Specification)?;
            Ok(range.pages())
        });
        match released {
            Ok(pages) => self.shared.counters.add(Counter::PagesReleased, pages),
            Err(_) => self.count(Counter::Diag10Errors),
        }
        released?;
        Ok(Changes::NONE)
    }

    /// X'08': execute CP commands.
    fn command(
        &self,
        cpu: &Cpu,
        system: &S,
        operands: &Diagnose<'_>,
    ) -> Result<Changes, Exception> {
        self.count(Counter::Diag8Calls);
        let command = Command::decode(operands)?;
        if let Destination::Buffer { area, .. } = command.destination {
            self.check_storage(area.address, area.length)?;
        }
        let mut text = vec![0; command.text.length as usize];
        self.shared
            .host
            .read(cpu, command.text.address, &mut text)?;
        let response = if text.is_empty() {
            Response::default()
        } else {
            match system.command(cpu.address(), &ebcdic::to_string(&text)) {
                Ok(response) => response,
                Err(ProtoError::Refused(reason)) => Response {
                    rc: 1,
                    lines: vec![reason],
                },
                Err(error) => return Err(self.lost(&error)),
            }
        };
        let rc = (command.rc, response.rc.into());
        match command.destination {
            Destination::Console => {
                for line in &response.lines {
                    self.shared.host.console(line);
                }
                Ok(Changes {
                    registers: [Some(rc), None],
                    cc: None,
                })
            }
            Destination::Buffer { area, length } => {
                let fitted = command::fit(&response.lines, area.length);
                self.shared.host.write(cpu, area.address, &fitted.bytes)?;
                let (cc, value) = match fitted.left {
                    0 => (0, fitted.bytes.len() as u64),
                    left => (1, left.into()),
                };
                Ok(Changes {
                    registers: [Some(rc), Some((length, value))],
                    cc: Some(cc),
                })
            }
        }
    }

    /// X'0C': date, time and CPU time.
    fn timing(&self, cpu: &Cpu, operands: &Diagnose<'_>) -> Result<Changes, Exception> {
        self.count(Counter::Diag0cCalls);
        let address = timing::decode(operands)?;
        // The thread runs the guest and works for it, and nothing tells the two apart.
        let used = thread_time();
        let record = timing::Record::new(since_epoch(), used, used);
        self.shared.host.write(cpu, address, record.as_bytes())?;
        Ok(Changes::NONE)
    }

    /// X'64': saved segments, of which there are none.
    fn segment(&self, operands: &Diagnose<'_>) -> Result<Changes, Exception> {
        self.count(Counter::Diag64Calls);
        segment::Function::decode(operands)?;
        Ok(Changes {
            registers: [Some((operands.ry, segment::NOT_FOUND)), None],
            cc: Some(segment::FAILED),
        })
    }

    /// X'DC': declare data to the monitor.
    fn monitor(&self, cpu: &Cpu, operands: &Diagnose<'_>) -> Result<Changes, Exception> {
        self.count(Counter::DiagDcCalls);
        let mut list = [0; monitor::PARAMETER_LENGTH];
        self.shared.host.read(cpu, operands.x(), &mut list)?;
        let request = monitor::Request::decode(&list)?;
        self.check_storage(request.product_id, monitor::PRODUCT_ID_LENGTH)?;
        self.check_storage(request.buffer, request.buffer_length.into())?;
        Ok(Changes {
            registers: [Some((operands.ry, 0)), None],
            cc: None,
        })
    }

    /// X'1F4': transcendent memory.
    fn tmem(&self, cpu: &Cpu, system: &S, operands: &Diagnose<'_>) -> Result<Changes, Exception> {
        self.count(Counter::Diag1f4Calls);
        let call = tmem::Call::decode(operands)?;
        let host = &self.shared.host;
        let mut block = vec![0; BLOCK_LENGTH];
        host.read(cpu, call.address, &mut block)?;
        // Whoever let it run: its pools are not any more what was saved.
        self.shared.set_saved(None);
        let outcome = match system.tmem(cpu.address(), call.function, block) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(code)) => return Err(Exception::Program(code)),
            Err(error) => return Err(self.lost(&error)),
        };
        // cpd has the frames' memory, so that no content needs to travel; but it stores behind the machine's back.
        // Storing the same once more, the machine forgets what instructions it had translated there.
        for address in outcome.stored.iter().flat_map(Frames::each) {
            let mut content = [0; PAGE_SIZE];
            host.read(cpu, address, &mut content)?;
            host.write(cpu, address, &content)?;
        }
        host.write(cpu, call.address, &outcome.block)?;
        Ok(Changes {
            registers: [Some((call.rc, outcome.rc.into())), None],
            cc: None,
        })
    }

    /// X'204': logical partitions.
    fn partition(
        &self,
        cpu: &Cpu,
        system: &S,
        operands: &Diagnose<'_>,
    ) -> Result<Changes, Exception> {
        self.count(Counter::Diag204Calls);
        let query = partition::Query::decode(operands)?;
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let page = partition::page(system.name(), cpus, since_epoch());
        self.shared.host.write(cpu, query.address, &page)?;
        Ok(Changes {
            registers: [Some((query.rc, 0)), Some((query.pages, 1))],
            cc: None,
        })
    }

    /// X'258': whether CPUs wait for pages.
    fn page_reference(&self, cpu: &Cpu, operands: &Diagnose<'_>) -> Result<Changes, Exception> {
        self.count(Counter::Diag258Calls);
        let address = page_reference::address(operands)?;
        let mut block = [0; page_reference::PARAMETER_LENGTH];
        self.shared.host.read(cpu, address, &mut block)?;
        let request = page_reference::Request::decode(&block, self.storage)?;
        let rc = self.shared.page_faults.execute(cpu.index(), request);
        Ok(Changes {
            registers: [Some((operands.ry, rc as u64)), None],
            cc: None,
        })
    }

    /// X'2FC': what guests use.
    fn accounting(
        &self,
        cpu: &Cpu,
        system: &S,
        operands: &Diagnose<'_>,
    ) -> Result<Changes, Exception> {
        self.count(Counter::Diag2fcCalls);
        let mut list = [0; accounting::PARAMETER_LENGTH];
        self.shared
            .host
            .read_logical(cpu, operands.x(), &mut list)?;
        let Some(query) = accounting::Query::decode(&list) else {
            return Ok(Changes {
                registers: [
                    Some((operands.ry, accounting::RC_BAD_PARAMETER as u64)),
                    None,
                ],
                cc: None,
            });
        };
        let whose = match query.whose {
            accounting::Whose::All => None,
            accounting::Whose::Own => Some(self.shared.user_id),
            accounting::Whose::One(user_id) => Some(user_id),
        };
        let records = match system.accounting(cpu.address(), whose) {
            Ok(records) => records,
            // Nobody of that name, or nobody we may know of.
            Err(ProtoError::Refused(_)) => Vec::new(),
            Err(error) => return Err(self.lost(&error)),
        };
        let usages: Vec<_> = records.iter().map(usage).collect();
        let answer = accounting::answer(&usages, query.size);
        self.shared
            .host
            .write_logical(cpu, query.address, &answer.bytes)?;
        Ok(Changes {
            registers: [
                Some((operands.rx, answer.residual as u64)),
                Some((operands.ry, answer.rc as u64)),
            ],
            cc: None,
        })
    }
}

/// The numbers of the register operands.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Rx.
    pub rx: cp_core::diag::Register,
    /// Ry.
    pub ry: cp_core::diag::Register,
}

/// What a completed DIAGNOSE changes.
struct Changes {
    registers: [Option<(cp_core::diag::Register, u64)>; 2],
    cc: Option<u8>,
}

impl Changes {
    const NONE: Self = Self {
        registers: [None; 2],
        cc: None,
    };
}

/// The time since 1970.
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The CPU time that this thread has used.
fn thread_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        used.tv_sec.unsigned_abs(),
        u32::try_from(used.tv_nsec).unwrap_or_default(),
    )
}

fn usage(record: &Accounting) -> accounting::Usage {
    accounting::Usage {
        user_id: record.user_id,
        cpu_time: record.cpu_time_us,
        elapsed: record.elapsed_us,
        storage_kib: record.storage_kib,
        resident_kib: record.resident_kib,
        host_cpus: record.host_cpus,
        cpus: record.cpus,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use cp_core::tmem::{Epoch, SaveId};
    use cp_proto::{Event, Report};

    use super::super::testing::{Machine, STORAGE};
    use super::*;
    use crate::host::NotDiscarded;
    use crate::link::Receiver;
    use crate::page_states::Access;

    const SPECIFICATION: Outcome = Err(Exception::Program(6));
    const ADDRESSING: Outcome = Err(Exception::Program(5));

    #[test]
    fn a_range_is_released_in_one_call() {
        let mut machine = Machine::zvm();
        machine.store(0x1_0000, &[1; 0x4000]);
        assert_eq!(
            machine.diagnose(0x10, &[(2, 0x1_1000), (3, 0x1_2000)]),
            Ok(None)
        );
        assert_eq!(
            *machine.host.discarded.lock().unwrap(),
            [(0x1_1000, 0x2000)]
        );
        assert_eq!(machine.load(0x1_1000, 0x2000), [0; 0x2000]);
        assert_eq!(machine.load(0x1_0fff, 1), [1]);
        assert_eq!(machine.counter(Counter::PagesReleased), 2);
    }

    #[test]
    fn what_is_paged_in_is_there_before_it_is_released() {
        let mut machine = Machine::zvm();
        for page in [0x1_1000, 0x1_2000] {
            machine.shared.pages().page_out(page);
        }
        machine.shared.pages().begin_page_in(0x1_1000);
        // From now on, whoever touches it waits.
        let host = machine.host.clone();
        let paging = host.paging.lock().unwrap();
        let released = thread::scope(|scope| {
            let release = scope.spawn(|| machine.diagnose(0x10, &[(2, 0x1_0000), (3, 0x1_3000)]));
            thread::sleep(Duration::from_millis(50));
            assert!(!release.is_finished());
            assert!(host.discarded.lock().unwrap().is_empty());
            drop(paging);
            release.join().unwrap()
        });
        assert_eq!(released, Ok(None));
        assert_eq!(*host.populated.lock().unwrap(), [0x1_1000]);
        assert_eq!(*host.discarded.lock().unwrap(), [(0x1_0000, 0x4000)]);
        machine.shared.pages().end_page_in(0x1_1000);
        for page in [0x1_1000, 0x1_2000] {
            assert_eq!(machine.guest.access(page), Ok(Access::Now));
        }
    }

    #[test]
    fn what_cannot_be_released_is_a_specification_exception() {
        let mut machine = Machine::kvm();
        assert_eq!(
            machine.diagnose(0x10, &[(2, 0x1000), (3, 0x1000)]),
            SPECIFICATION
        );
        assert_eq!(
            machine.diagnose(0x10, &[(2, STORAGE), (3, STORAGE)]),
            SPECIFICATION
        );
        *machine.host.refuse_discard.lock().unwrap() = Some(NotDiscarded);
        assert_eq!(
            machine.diagnose(0x10, &[(2, 0x4000), (3, 0x4000)]),
            SPECIFICATION
        );
        assert_eq!(machine.counter(Counter::Diag10Errors), 3);
        assert_eq!(machine.counter(Counter::PagesReleased), 0);
    }

    #[test]
    fn a_guest_of_kvm_knows_no_other_code() {
        let mut machine = Machine::kvm();
        for code in [0x08, 0x0c, 0x64, 0xdc, 0x1f4, 0x2fc, 0x258] {
            assert_eq!(
                machine.diagnose(code, &[]),
                Err(Exception::Unknown),
                "{code:#x}"
            );
        }
    }

    /// QUERY USERID with a response buffer.
    fn query_userid(capacity: u64) -> (Machine, Outcome) {
        let mut machine = Machine::zvm();
        let text = ebcdic::from_str("QUERY USERID");
        machine.store(0x4000, &text);
        let outcome = machine.diagnose(
            0x08,
            &[
                (2, 0x4000),
                (3, 0x5000),
                (4, 0x4000_0000 | text.len() as u64),
                (5, capacity),
            ],
        );
        (machine, outcome)
    }

    #[test]
    fn a_response_is_stored() {
        let (machine, outcome) = query_userid(4096);
        assert_eq!(outcome, Ok(Some(0)));
        assert_eq!(machine.registers[4], 0);
        assert_eq!(machine.registers[5], 20);
        assert_eq!(
            ebcdic::to_string(&machine.load(0x5000, 20)),
            "LINUX01  AT COOPMEM\n"
        );
    }

    #[test]
    fn a_response_that_does_not_fit_is_counted() {
        let (machine, outcome) = query_userid(19);
        assert_eq!(outcome, Ok(Some(1)));
        assert_eq!(machine.registers[5], 20);
        assert_eq!(machine.load(0x5000, 1), [0]);
    }

    #[test]
    fn a_response_without_a_buffer_goes_to_the_console() {
        let mut machine = Machine::zvm();
        machine.store(0x4000, &ebcdic::from_str("QUERY USERID"));
        assert_eq!(machine.diagnose(0x08, &[(2, 0x4000), (3, 12)]), Ok(None));
        assert_eq!(machine.registers[3], 0);
        assert_eq!(
            *machine.host.console.lock().unwrap(),
            ["LINUX01  AT COOPMEM"]
        );
    }

    #[test]
    fn an_unknown_command_has_its_return_code() {
        let mut machine = Machine::zvm();
        machine.store(0x4000, &ebcdic::from_str("FROB"));
        assert_eq!(machine.diagnose(0x08, &[(2, 0x4000), (3, 4)]), Ok(None));
        assert_eq!(machine.registers[3], 1);
    }

    #[test]
    fn a_command_is_not_executed_if_an_operand_is_bad() {
        let mut machine = Machine::zvm();
        let beyond = STORAGE - 4;
        assert_eq!(machine.diagnose(0x08, &[(2, beyond), (3, 12)]), ADDRESSING);
        assert_eq!(
            machine.diagnose(0x08, &[(2, 0x4000), (3, beyond), (4, 0x4000_000c), (5, 80)]),
            ADDRESSING
        );
        assert_eq!(
            machine.diagnose(
                0x08,
                &[(2, 0x4000), (3, u64::MAX), (4, 0x4000_000c), (5, 80)]
            ),
            ADDRESSING
        );
        assert!(machine.commands().is_empty());
    }

    #[test]
    fn a_lost_cpd_stops_the_guest_once() {
        let mut machine = Machine::zvm();
        machine.lose_cpd();
        for _ in 0..2 {
            assert_eq!(
                machine.diagnose(0x08, &[(2, 0x4000), (3, 12)]),
                Err(Exception::Stopped)
            );
        }
        assert_eq!(machine.host.stopped.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_guest_that_was_saved_outlives_cpd_until_it_uses_its_pools_or_is_reset() {
        let save = SaveId {
            epoch: Epoch(1),
            number: 2,
        };
        let stopped = |machine: &Machine| machine.host.stopped.lock().unwrap().len();
        let mut machine = Machine::zvm();
        machine.shared.event(Event::Hold);
        assert!(machine.host.holding.load(Ordering::Relaxed));
        machine.guest.held();
        assert_eq!(machine.reports(), [Report::Held]);
        machine.shared.event(Event::Saved { save });
        machine.lose_cpd();
        assert_eq!(machine.shared.lost(&ProtoError::Closed), Some(save));
        machine.guest.held();
        assert_eq!(stopped(&machine), 0);
        // Somebody let it run.
        assert!(machine.diagnose(0x1f4, &[(2, 0x7000), (4, 3)]).is_err());
        assert_eq!(machine.shared.lost(&ProtoError::Closed), None);
        assert_eq!(stopped(&machine), 1);

        let machine = Machine::zvm();
        let ends: [fn(&Machine); 2] = [
            |machine| machine.shared.event(Event::Release),
            |machine| machine.guest.reset(),
        ];
        for end in ends {
            machine.shared.event(Event::Hold);
            machine.shared.event(Event::Saved { save });
            end(&machine);
            assert_eq!(machine.shared.lost(&ProtoError::Closed), None);
        }
    }

    #[test]
    fn the_time_is_stored() {
        let mut machine = Machine::zvm();
        assert_eq!(machine.diagnose(0x0c, &[(2, 0x6000)]), Ok(None));
        let text = ebcdic::to_string(&machine.load(0x6000, 16));
        assert_eq!(text.as_bytes()[2], b'/');
        assert_eq!(text.as_bytes()[13], b':');
        assert_eq!(machine.diagnose(0x0c, &[(2, STORAGE)]), ADDRESSING);
        assert_eq!(machine.diagnose(0x0c, &[(2, 0x6004)]), SPECIFICATION);
    }

    #[test]
    fn no_saved_segment_is_found() {
        let mut machine = Machine::zvm();
        assert_eq!(
            machine.diagnose(0x64, &[(2, 0x6000), (3, 0x38)]),
            Ok(Some(2))
        );
        assert_eq!(machine.registers[3], 44);
        assert_eq!(
            machine.diagnose(0x64, &[(2, 0x6000), (3, 0x39)]),
            SPECIFICATION
        );
    }

    #[test]
    fn a_block_goes_to_cpd_and_comes_back() {
        let mut machine = Machine::zvm();
        machine.store(0x7000, b"a block");
        machine.store(0x9000, b"stored by cpd");
        let operands = [(2, 0x7000), (4, 3)];
        assert_eq!(machine.diagnose(0x1f4, &operands), Ok(None));
        assert_eq!(machine.registers[3], 0x16);
        assert_eq!(machine.load(0x7000, 7), b"A BLOCK");
        // As told, cpd stored to two frames, which the machine has to learn.
        let written = machine.host.written.lock().unwrap().clone();
        assert!(
            written.ends_with(&[(0x9000, 4096), (0xa000, 4096), (0x7000, 4096)]),
            "{written:x?}"
        );
        assert_eq!(machine.load(0x9000, 13), b"stored by cpd");
        assert_eq!(machine.counter(Counter::Diag1f4Calls), 1);
    }

    #[test]
    fn a_block_is_a_page_of_storage() {
        let mut machine = Machine::zvm();
        assert_eq!(machine.diagnose(0x1f4, &[(2, STORAGE), (4, 0)]), ADDRESSING);
        let beyond = u64::MAX << 12;
        assert_eq!(machine.diagnose(0x1f4, &[(2, beyond), (4, 0)]), ADDRESSING);
        assert_eq!(
            machine.diagnose(0x1f4, &[(2, 0x7008), (4, 0)]),
            SPECIFICATION
        );
        assert_eq!(
            machine.diagnose(0x1f4, &[(2, 0x7000), (4, 5)]),
            SPECIFICATION
        );
        // cpd has none.
        assert_eq!(
            machine.diagnose(0x1f4, &[(2, 0x7000), (4, 0)]),
            SPECIFICATION
        );
    }

    #[test]
    fn the_only_partition_is_this_system() {
        let mut machine = Machine::zvm();
        assert_eq!(
            machine.diagnose(0x204, &[(2, 0x6000), (4, 4), (5, 1)]),
            Ok(None)
        );
        assert_eq!(machine.registers[4..6], [0, 1]);
        assert_eq!(ebcdic::to_string(&machine.load(0x6000 + 24, 8)), "COOPMEM ");
        assert_eq!(
            machine.diagnose(0x204, &[(4, 0x1_0005), (5, 0)]),
            SPECIFICATION
        );
    }

    #[test]
    fn monitor_data_is_accepted_if_it_lies_in_storage() {
        let mut machine = Machine::zvm();
        let mut list = [0; monitor::PARAMETER_LENGTH];
        (list[1], list[2], list[3], list[11]) = (0xdc, 0x80, 32, 0x70);
        list[22] = 0x20;
        list[30] = 0x30;
        machine.store(0x7000, &list);
        assert_eq!(machine.diagnose(0xdc, &[(2, 0x7000)]), Ok(None));
        assert_eq!(machine.registers[3], 0);
        list[24] = 0x80;
        machine.store(0x7000, &list);
        assert_eq!(machine.diagnose(0xdc, &[(2, 0x7000)]), ADDRESSING);
    }

    #[test]
    fn accounting_takes_logical_addresses() {
        let mut machine = Machine::zvm();
        let mut list = [0; accounting::PARAMETER_LENGTH];
        list[..8].copy_from_slice(&ebcdic::padded::<8>("*"));
        list[8..16].copy_from_slice(&ebcdic::padded::<8>("*"));
        list[16..24].copy_from_slice(&Machine::logical(0x9000).to_be_bytes());
        list[31] = 2;
        machine.store(0x8000, &list);
        let operands = [(2, Machine::logical(0x8000))];
        assert_eq!(machine.diagnose(0x2fc, &operands), Ok(None));
        assert_eq!(machine.registers[2], (-112_i64) as u64);
        assert_eq!(machine.registers[3], (-2_i64) as u64);
        list[27] = 112;
        machine.store(0x8000, &list);
        assert_eq!(machine.diagnose(0x2fc, &operands), Ok(None));
        assert_eq!(machine.registers[2..4], [0, 0]);
        assert_eq!(
            ebcdic::to_string(&machine.load(0x9000 + 104, 8)),
            "LINUX01 "
        );
        // Without translation there is nothing.
        assert_eq!(
            machine.diagnose(0x2fc, &[(2, 0x8000)]),
            Err(Exception::Access)
        );
    }
}
