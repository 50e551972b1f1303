//! The program of pod sandboxes: it holds the pod's namespaces and does nothing.
//!
//! As the first process of a pid namespace it lets the kernel reap children: it ignores SIGCHLD and sleeps. It is so
//! small that it is put together here, an ELF file of one segment.

use crate::error::Error;

/// Where the segment is loaded.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// `rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8)`, then `pause()` for ever; the structure follows the code.
const X86_64: &[u8] = &[
    0xbf, 17, 0, 0, 0, // mov edi, SIGCHLD
    0x48, 0x8d, 0x35, 28, 0, 0, 0, // lea rsi, [rip + 28]
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
    0xb8, 13, 0, 0, 0, // mov eax, rt_sigaction
    0x0f, 0x05, // syscall
    0xb8, 34, 0, 0, 0, // again: mov eax, pause
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp again
    0, 0, 0, 0, // to a multiple of eight
    1, 0, 0, 0, 0, 0, 0, 0, // handler: SIG_IGN
    0, 0, 0, 0, 0, 0, 0, 0, // flags
    0, 0, 0, 0, 0, 0, 0, 0, // restorer
    0, 0, 0, 0, 0, 0, 0, 0, // mask
];

/// The same with `ppoll(NULL, 0, NULL, NULL, 0)`, one instruction a word.
const AARCH64: &[u32] = &[
    0xd280_0220, // mov x0, #17 (SIGCHLD)
    0x1000_01c1, // adr x1, +56
    0xd280_0002, // mov x2, #0
    0xd280_0103, // mov x3, #8
    0xd280_10c8, // mov x8, #134 (rt_sigaction)
    0xd400_0001, // svc #0
    0xd280_0000, // again: mov x0, #0
    0xd280_0001, // mov x1, #0
    0xd280_0002, // mov x2, #0
    0xd280_0003, // mov x3, #0
    0xd280_0004, // mov x4, #0
    0xd280_0928, // mov x8, #73 (ppoll)
    0xd400_0001, // svc #0
    0x17ff_fff9, // b again
    0xd503_201f, // nop
    1,           // handler: SIG_IGN, then flags, restorer and mask
    0,
    0,
    0,
    0,
    0,
    0,
    0,
];

/// The architecture in the words of image configurations.
pub(crate) fn architecture() -> Result<&'static str, Error> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Error::Architecture(other)),
    }
}

/// The program for this machine.
///
/// # Errors
/// When this machine is of an architecture that none is written for.
pub(crate) fn program() -> Result<Vec<u8>, Error> {
    match architecture()? {
        "amd64" => Ok(elf(62, X86_64)),
        _ => Ok(elf(183, &AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())),
    }
}

fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64;
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut half = |n: u16| out.extend_from_slice(&n.to_le_bytes());
    half(2); // an executable
    half(machine);
    out.extend_from_slice(&1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        out.extend_from_slice(&word.to_le_bytes()); // entry, program headers, section headers
    }
    out.extend_from_slice(&0_u32.to_le_bytes());
    for n in [64_u16, 56, 1, 64, 0, 0] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&1_u32.to_le_bytes()); // to be loaded
    out.extend_from_slice(&5_u32.to_le_bytes()); // readable and executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(code);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::zombie_processes)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// The program runs, and it is still there when it is looked at.
    #[test]
    fn it_is_a_program_that_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        // Asleep (S) is what it is once it waits; running is what it is before.
        let state = loop {
            let text = std::fs::read_to_string(&stat).unwrap();
            let state = text.rsplit(") ").next().unwrap().chars().next().unwrap();
            if state != 'R' && state != 'D' {
                break state;
            }
        };
        assert_eq!((state, child.try_wait().unwrap()), ('S', None));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
