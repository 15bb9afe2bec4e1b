/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface between the device zvm-cp and the library that it loads
 *
 * The device is the mechanical half of a control program: it traps, reads and
 * writes guest storage and delivers interruptions.  The library decides.  They
 * are built apart, so everything that they share is in this file, and each
 * table starts with the version and the size that its author knew.  A table of
 * another version or size is refused, never guessed at.
 *
 * This file is kept in two places, with the device and with the library, and
 * must be the same in both.
 */
#ifndef HW_S390X_ZVM_CP_H
#define HW_S390X_ZVM_CP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZVM_CP_ABI_VERSION 6u

/* Name of the data symbol, a struct zvm_cp_ops, that the library exports */
#define ZVM_CP_OPS_SYMBOL "zvm_cp_ops"

/* Longest message of zvm_cp_ops.open, with the terminating zero */
#define ZVM_CP_ERROR_SIZE 256

/* What the library returns besides a (positive) program interruption code */
#define ZVM_CP_DONE 0
/* Not a function of this control program: let the machine decide */
#define ZVM_CP_UNKNOWN (-1)
/* The control program is gone and zvm_cp_host.stop was called */
#define ZVM_CP_STOPPED (-2)
/* zvm_cp_host.read_logical or write_logical failed: an access exception */
#define ZVM_CP_ACCESS (-3)
/* Only of zvm_cp_ops.access: it may, but has to wait for the content */
#define ZVM_CP_ABSENT (-4)

/* Values of zvm_cp_machine.flavour */
#define ZVM_CP_FLAVOUR_ZVM 0u
#define ZVM_CP_FLAVOUR_KVM 1u

/* Bits of zvm_cp_machine.options */
/* A CPU that touches an unused page gets an addressing exception */
#define ZVM_CP_UNUSED_EXCEPTION 1u
/* ESSA sets pages "stable and no DAT": facility 147 */
#define ZVM_CP_NODAT 2u
/* A device that touches an unused or volatile page ends the machine */
#define ZVM_CP_ORACLE 4u

/*
 * What the library may ask of the device.  It stays valid until close.
 */
struct zvm_cp_host {
    uint32_t version;
    uint32_t size;
    void *opaque;

    /*
     * An interruption was queued, so has_irq may have become true for some
     * CPU.  Any thread; does not block.
     */
    void (*inject)(void *opaque);
    /*
     * A page was brought in: zvm_cp_ops.take_page has its token.  Any thread;
     * does not block.
     */
    void (*page_in)(void *opaque);
    /* Show @text, one line of UTF-8, at the guest's console.  Any thread. */
    void (*console)(void *opaque, const char *text);
    /*
     * End the virtual machine with a failure; @reason is the one line that
     * the user sees.  Any thread; returns.
     */
    void (*stop)(void *opaque, const char *reason);

    /*
     * Copy from or to guest storage at the real address @real of @cpu, with
     * prefixing.  0, or -1 if any byte lies outside of storage; then nothing
     * was copied.  Only on the thread of @cpu.
     */
    int (*read)(void *opaque, uint32_t cpu, uint64_t real, void *buffer,
                size_t length);
    int (*write)(void *opaque, uint32_t cpu, uint64_t real,
                 const void *buffer, size_t length);
    /*
     * The same at the logical address @logical, subject to address
     * translation.  After -1 return ZVM_CP_ACCESS and change nothing.
     */
    int (*read_logical)(void *opaque, uint32_t cpu, uint64_t logical,
                        void *buffer, size_t length);
    int (*write_logical)(void *opaque, uint32_t cpu, uint64_t logical,
                         const void *buffer, size_t length);
    /*
     * Give the host its memory back for @length bytes of storage from the
     * absolute address @address; they read as zero afterwards.  Both are
     * multiples of 4096.  Prefix areas of CPUs are left out.  0, or -1 if
     * that cannot be done now.  Any thread.
     */
    int (*discard)(void *opaque, uint64_t address, uint64_t length);
    /*
     * Let the page at the absolute address @address take memory of the host.
     * Any thread.
     */
    void (*populate)(void *opaque, uint64_t address);

    /*
     * Call zvm_cp_ops.exclusive soon, at least once after this call, on the
     * thread of some CPU while no CPU executes instructions, whether the CPUs
     * run, wait or are stopped.  Any thread; does not block.
     */
    void (*exclusive)(void *opaque);
    /*
     * The machine itself uses the page at the absolute address @address (a
     * prefix area): it is never to be taken.  Only in zvm_cp_ops.exclusive.
     */
    bool (*pinned)(void *opaque, uint64_t address);
    /*
     * All CPUs forget how addresses are translated before they go on, so that
     * zvm_cp_ops.access is asked about each page that they touch next.  Only
     * in zvm_cp_ops.exclusive.
     */
    void (*flush)(void *opaque);

    /*
     * Stop all CPUs, let I/O that is under way end, and call zvm_cp_ops.held
     * then; at once if they are stopped already.  Any thread; does not block.
     */
    void (*hold)(void *opaque);
    /*
     * Let the CPUs go on if hold has stopped them.  Any thread; does not
     * block.
     */
    void (*release)(void *opaque);
};

/* The virtual machine, as the device was configured */
struct zvm_cp_machine {
    uint32_t version;
    uint32_t size;
    uint32_t flavour;
    /* CPU addresses are below this */
    uint32_t cpus;
    /* Bytes of storage, from absolute address 0 */
    uint64_t storage;
    /* File that holds the storage, or -1, and where in it address 0 is */
    int32_t ram_fd;
    uint32_t options;
    uint64_t ram_offset;
    /* Where the storage is mapped */
    void *ram;
    /* As the user gave them; NULL if not given */
    const char *user_id;
    const char *socket;
};

/* How the guest shall see the machine; filled in by open */
struct zvm_cp_identity {
    /* Control program identifier of SYSIB 3.2.2; empty: stays as it is */
    char cpi[17];
    /* Name of the virtual machine in SYSIB 3.2.2 */
    char name[9];
    /* Version code of STORE CPU ID; 0: stays as it is */
    uint8_t cpu_version;
    /* Whether the guest has the IUCV instruction */
    uint8_t iucv;
};

struct zvm_cp_irq {
    /* Real address at which @buffer is to be stored */
    uint64_t address;
    uint8_t buffer[40];
    /* More interruptions are queued, for whichever CPU */
    uint8_t more;
    uint8_t reserved[7];
};

/*
 * The library.  None of the functions may unwind or throw.
 */
struct zvm_cp_ops {
    uint32_t version;
    uint32_t size;

    /* NULL on failure, with a message of one line in @error */
    void *(*open)(const struct zvm_cp_host *host,
                  const struct zvm_cp_machine *machine,
                  struct zvm_cp_identity *identity,
                  char error[ZVM_CP_ERROR_SIZE]);
    /* No other function runs or will be called */
    void (*close)(void *cp);

    /*
     * DIAGNOSE @code and the IUCV instruction on @cpu, on its thread; may
     * block.  @regs are its 16 general registers and may be changed.  *@cc is
     * set if the condition code changes.
     */
    int (*diag)(void *cp, uint32_t cpu, uint32_t code, uint32_t r1,
                uint32_t r3, uint64_t *regs, int *cc);
    int (*iucv)(void *cp, uint32_t cpu, uint64_t plist, uint64_t *regs,
                int *cc);

    /*
     * EXTRACT AND SET STORAGE ATTRIBUTES with operation @orc on the page at
     * the absolute address @address, which lies within storage; *@state is
     * what the instruction returns.  Any thread; neither blocks nor locks.
     */
    int (*essa)(void *cp, uint64_t address, uint32_t orc, uint64_t *state);
    /*
     * May a CPU access the page at the absolute address @address?
     * ZVM_CP_DONE, or the program interruption code: block volatility if its
     * content was discarded.  ZVM_CP_ABSENT if it may, but the content is not
     * in memory of the host.  Asked when a translation is made; any thread;
     * neither blocks nor locks.
     */
    int (*access)(void *cp, uint64_t address);
    /*
     * @cpu, whose PSW has the mask @psw, touches the page at the absolute
     * address @address, which is absent, and is enabled for external
     * interruptions of the service-signal subclass.  If true, the instruction
     * is nullified and the CPU takes one, X'2603' with subcode X'0600' and the
     * parameter *@token; take_page has the same token when the page is there.
     * If false, the CPU waits for the page.  On the thread of @cpu; does not
     * block for long.
     */
    bool (*page_fault)(void *cp, uint32_t cpu, uint64_t address, uint64_t psw,
                       uint64_t *token);
    /*
     * The token of a page that was brought in, for any CPU to take with
     * subcode X'0680'; false if there is none.  *@more tells whether there are
     * others.  Does not block for long.
     */
    bool (*take_page)(void *cp, uint64_t *token, bool *more);
    /* A CPU takes a block-volatility interruption for that page. */
    void (*block_volatility)(void *cp, uint64_t address);
    /*
     * With ZVM_CP_ORACLE: the device @name gets or gives up @length bytes from
     * the absolute address @address, to write to them or to read them.  Any
     * thread; neither blocks nor locks.
     */
    void (*device)(void *cp, const char *name, uint64_t address,
                   uint64_t length, bool write);
    /*
     * A device discards @length bytes of storage from the absolute address
     * @address, both multiples of 4096, by zvm_cp_host.discard.  0, or -1 if
     * that cannot be done.  Any thread; may block.
     */
    int (*discard)(void *cp, uint64_t address, uint64_t length);
    /* What zvm_cp_host.exclusive asked for; must not take long. */
    void (*exclusive)(void *cp);
    /* What zvm_cp_host.hold asked for; no CPU is running. */
    void (*held)(void *cp);

    /*
     * Can @cpu take an interruption of the control program, as far as that
     * one knows?  Any thread; neither blocks nor locks.
     */
    bool (*has_irq)(void *cp, uint32_t cpu);
    /* Take one; false if there is none (more).  Does not block for long. */
    bool (*take_irq)(void *cp, uint32_t cpu, struct zvm_cp_irq *irq);

    /* The virtual machine is reset; no CPU is running */
    void (*reset)(void *cp);
    /* @cpu is reset, alone or with the virtual machine; it is not running */
    void (*reset_cpu)(void *cp, uint32_t cpu);
};

#endif /* HW_S390X_ZVM_CP_H */
