// SPDX-License-Identifier: GPL-2.0

//! The IUCV instruction.
//!
//! Interrupt buffers and masks belong to the CPUs and stay here; all else concerns the whole system.

use cp_core::iucv::interrupt::Declaration;
use cp_core::iucv::plist::{Function, PLIST_LENGTH, Raw, check_address, mask_byte};
use cp_core::iucv::{Completion, ProgramInterruption};
use cp_proto::counters::Counter;
use cp_proto::{Plist, ProtoError};

use super::{Exception, Guest, Outcome};
use crate::host::{Cpu, Host};
use crate::link::System;

impl<H: Host, S: System> Guest<H, S> {
    /// The IUCV instruction on a CPU, with its registers. `address` is the real address of the parameter list.
    pub fn iucv(&self, cpu: &Cpu, address: u64, registers: &mut [u64; 16]) -> Outcome {
        let Some(system) = &self.system else {
            return Err(ProgramInterruption::Operation.into());
        };
        self.shared.counters.add(Counter::IucvCalls, 1);
        let function = Function::try_from(registers[0])?;
        let open_to_all = matches!(function, Function::Query | Function::DeclareBuffer);
        if !open_to_all && !self.shared.interrupts.is_declared() {
            return Err(ProgramInterruption::Operation.into());
        }
        let mut plist: Raw = [0; PLIST_LENGTH];
        if !function.is_without_plist() {
            check_address(address, self.storage)?;
            self.shared.host.read(cpu, address, &mut plist)?;
        }
        let before = plist;
        let completion = self.execute(cpu, system, function, &mut plist)?;
        if plist != before && !function.is_without_plist() {
            self.shared.host.write(cpu, address, &plist)?;
        }
        for (register, value) in [(0, completion.r0), (1, completion.r1)] {
            if let Some(value) = value {
                let high = registers[register] & !u64::from(u32::MAX);
                registers[register] = high | u64::from(value);
            }
        }
        Ok(Some(completion.cc))
    }

    fn execute(
        &self,
        cpu: &Cpu,
        system: &S,
        function: Function,
        plist: &mut Raw,
    ) -> Result<Completion, Exception> {
        let interrupts = &self.shared.interrupts;
        match function {
            Function::DeclareBuffer => {
                let (completion, declaration) =
                    interrupts.declare(cpu.index(), plist, self.storage)?;
                match declaration {
                    Declaration::First => {
                        let told = self.remote(cpu, system, function, plist);
                        if !matches!(told, Ok(Completion { cc: 0, .. })) {
                            interrupts.retrieve(cpu.index())?;
                        }
                        told
                    }
                    Declaration::Further | Declaration::Last => Ok(completion),
                }
            }
            Function::RetrieveBuffer => {
                let (completion, declaration) = interrupts.retrieve(cpu.index())?;
                self.shared.publish_oldest();
                match declaration {
                    Declaration::Last => self.remote(cpu, system, function, plist),
                    Declaration::Further | Declaration::First => Ok(completion),
                }
            }
            Function::SetMask => Ok(interrupts.set_mask(cpu.index(), mask_byte(plist))?),
            Function::SetControlMask => {
                Ok(interrupts.set_control_mask(cpu.index(), mask_byte(plist))?)
            }
            _ => self.remote(cpu, system, function, plist),
        }
    }

    /// Lets `cpd` do it.
    fn remote(
        &self,
        cpu: &Cpu,
        system: &S,
        function: Function,
        plist: &mut Raw,
    ) -> Result<Completion, Exception> {
        let reply = system.iucv(cpu.address(), function as u64, Plist(*plist));
        match reply {
            Ok(Ok(outcome)) => {
                *plist = outcome.plist.0;
                Ok(Completion {
                    cc: outcome.cc,
                    r0: outcome.r0,
                    r1: outcome.r1,
                })
            }
            Ok(Err(code)) => Err(Exception::Program(code)),
            Err(error @ ProtoError::Refused(_)) | Err(error) => Err(self.lost(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Machine, STORAGE};
    use super::*;
    use crate::link::Receiver;
    use cp_proto::Event;

    const OPERATION: Outcome = Err(Exception::Program(1));
    const ADDRESSING: Outcome = Err(Exception::Program(5));
    const SPECIFICATION: Outcome = Err(Exception::Program(6));

    /// A parameter list of DCLBFR for the buffer at `address`.
    fn declaration(address: u32) -> Raw {
        let mut plist = [0; PLIST_LENGTH];
        plist[0x0c..0x10].copy_from_slice(&address.to_be_bytes());
        plist
    }

    fn declare(machine: &mut Machine, address: u32) -> Outcome {
        machine.store(0x3000, &declaration(address));
        machine.iucv(Function::DeclareBuffer, 0x3000)
    }

    /// An interrupt of kind "message pending" on path 7.
    fn interrupt(machine: &Machine, id: u64) {
        let mut buffer = [0; PLIST_LENGTH];
        (buffer[1], buffer[3], buffer[7]) = (7, 9, id as u8);
        machine.shared.event(Event::Interrupt {
            id,
            buffer: Plist(buffer),
        });
    }

    #[test]
    fn operands_are_checked() {
        let mut machine = Machine::zvm();
        assert_eq!(machine.iucv(Function::SetMask, 0x3000), OPERATION);
        assert_eq!(machine.iucv(Function::DeclareBuffer, 0x3004), SPECIFICATION);
        assert_eq!(machine.iucv(Function::DeclareBuffer, STORAGE), ADDRESSING);
        assert_eq!(declare(&mut machine, 0x2004), SPECIFICATION);
        assert_eq!(declare(&mut machine, STORAGE as u32), ADDRESSING);
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        machine.registers[0] = 18;
        assert_eq!(machine.iucv_as_is(0x3000), SPECIFICATION);
    }

    #[test]
    fn a_guest_of_kvm_has_no_iucv() {
        assert_eq!(Machine::kvm().iucv(Function::Query, 0), OPERATION);
    }

    #[test]
    fn an_interrupt_goes_to_the_declared_buffer() {
        let mut machine = Machine::zvm();
        interrupt(&machine, 1);
        assert!(!machine.guest.has_interrupt(0));
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        assert!(machine.guest.has_interrupt(0));
        assert!(!machine.guest.has_interrupt(1));
        let taken = machine.take().unwrap();
        assert_eq!((taken.address, taken.buffer[3]), (0x2000, 9));
        assert_eq!(machine.take(), None);
        assert!(!machine.guest.has_pending());
        assert_eq!(*machine.host.injected.lock().unwrap(), 1);
    }

    #[test]
    fn masks_hold_interrupts_back() {
        let mut machine = Machine::zvm();
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        machine.store(0x3000, &[0; PLIST_LENGTH]);
        assert_eq!(machine.iucv(Function::SetMask, 0x3000), Ok(Some(0)));
        interrupt(&machine, 1);
        assert!(!machine.guest.has_interrupt(0) && machine.guest.has_pending());
        machine.store(0x3000, &[0x80]);
        assert_eq!(machine.iucv(Function::SetMask, 0x3000), Ok(Some(0)));
        assert!(machine.guest.has_interrupt(0));
    }

    #[test]
    fn a_retracted_interrupt_is_not_taken() {
        let mut machine = Machine::zvm();
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        interrupt(&machine, 1);
        machine.shared.event(Event::Retract { id: 1 });
        assert!(!machine.guest.has_interrupt(0));
        assert_eq!(machine.take(), None);
        assert_eq!(machine.counter(Counter::IucvInterruptsRetracted), 1);
    }

    #[test]
    fn cpd_learns_of_the_first_and_the_last_buffer() {
        let mut machine = Machine::zvm();
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(1)));
        assert_eq!(machine.load(0x3003, 1), [19]);
        assert_eq!(machine.iucv(Function::RetrieveBuffer, 0), Ok(Some(0)));
        assert_eq!(machine.iucv(Function::RetrieveBuffer, 0), OPERATION);
        let codes =
            [Function::DeclareBuffer, Function::RetrieveBuffer].map(|function| function as u64);
        assert_eq!(machine.functions(), codes);
    }

    #[test]
    fn registers_and_plist_come_back() {
        let mut machine = Machine::zvm();
        machine.registers[1] = 0xffff_ffff_0000_3000;
        assert_eq!(machine.iucv(Function::Query, 0), Ok(Some(0)));
        assert_eq!(machine.registers[..2], [40, 0xffff_ffff_0000_0400]);
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        machine.store(0x3000, &[0; PLIST_LENGTH]);
        assert_eq!(machine.iucv(Function::Connect, 0x3000), Ok(Some(0)));
        assert_eq!(machine.load(0x3000, 2), [0, 5]);
        // Storage is not touched by a function without a parameter list.
        assert_eq!(machine.iucv(Function::Query, 0x3004), Ok(Some(0)));
    }

    #[test]
    fn a_reset_forgets() {
        let mut machine = Machine::zvm();
        assert_eq!(declare(&mut machine, 0x2000), Ok(Some(0)));
        interrupt(&machine, 1);
        machine.guest.reset();
        assert!(!machine.guest.has_pending());
        assert_eq!(machine.iucv(Function::Sever, 0x3000), OPERATION);
        assert_eq!(machine.counter(Counter::Resets), 1);
    }

    #[test]
    fn a_malformed_interrupt_stops_the_guest() {
        let machine = Machine::zvm();
        machine.shared.event(Event::Interrupt {
            id: 1,
            buffer: Plist([0; PLIST_LENGTH]),
        });
        assert_eq!(machine.host.stopped.lock().unwrap().len(), 1);
    }
}
