// SPDX-License-Identifier: GPL-2.0

#include <asm/diag.h>
#include <asm/machine.h>
#include <asm/ptrace.h>
#include <linux/errno.h>
#include <linux/io.h>
#include <linux/pfn.h>

/*
 * DIAGNOSE X'10' as diag10_range() has it, but whoever calls this learns
 * whether it was carried out. Here, since the exception table entry refers to
 * labels of the assembler code.
 */
__rust_helper int rust_helper_diag10_release(unsigned long first_pfn,
					     unsigned long last_pfn)
{
	int rc = -EOPNOTSUPP;

	diag_stat_inc(DIAG_STAT_X010);
	/*
	 * A program check that suppresses leaves the address of the next
	 * instruction behind, one that nullifies that of the DIAGNOSE itself.
	 */
	asm_inline volatile(
		"0:	diag	%[first],%[last],0x10\n"
		"1:	lhi	%[rc],0\n"
		"2:\n"
		EX_TABLE(0b, 2b)
		EX_TABLE(1b, 2b)
		: [rc] "+d" (rc)
		: [first] "a" (PFN_PHYS(first_pfn)),
		  [last] "a" (PFN_PHYS(last_pfn))
		: "memory");
	return rc;
}

/*
 * The call for transcendent memory. Returns its return code, or an error if
 * there is no such call.
 */
__rust_helper long rust_helper_diag_tmem(unsigned long function,
					 unsigned long block)
{
	union register_pair rp = { .even = block };
	int fault = -EOPNOTSUPP;

	asm_inline volatile(
		"0:	diag	%[rp],%[function],0x1f4\n"
		"1:	lhi	%[fault],0\n"
		"2:\n"
		EX_TABLE(0b, 2b)
		EX_TABLE(1b, 2b)
		: [rp] "+&d" (rp.pair), [fault] "+&d" (fault)
		: [function] "d" (function)
		: "memory");
	return fault ?: (long)rp.odd;
}

__rust_helper void *rust_helper_phys_to_virt(phys_addr_t address)
{
	return phys_to_virt(address);
}

__rust_helper bool rust_helper_machine_is_vm(void)
{
	return machine_is_vm();
}

__rust_helper bool rust_helper_machine_is_kvm(void)
{
	return machine_is_kvm();
}

__rust_helper bool rust_helper_machine_is_lpar(void)
{
	return machine_is_lpar();
}

__rust_helper bool rust_helper_user_mode(struct pt_regs *regs)
{
	return user_mode(regs);
}
