//! x86-64's. CPUID is no privileged instruction: any program may ask, and so does this.

use alloc::vec::Vec;

use abi::Result;
use raw_cpuid::{CpuId, CpuIdReaderNative};

use crate::system::View;
use crate::text::Text;

/// What one CPU is.
struct Processor<'a> {
    /// `GenuineIntel` and so on.
    vendor: &'a str,
    /// The brand string.
    model_name: &'a str,
    /// Family and model, with their extended parts.
    family: u8,
    model: u8,
    stepping: u8,
    /// Its clock, in kHz.
    clock_khz: u64,
    /// Size of the last-level cache in KiB.
    cache_kib: u16,
    /// The highest leaf of CPUID.
    cpuid_level: u32,
    /// Linux's names of its features, one space between them.
    features: &'a [u8],
    /// Bytes per cache line flush.
    flush_size: u32,
    /// Physical and virtual address bits.
    address_bits: (u8, u8),
}

/// What the CPU this runs on says of itself, once for each: they are taken to be alike.
pub(crate) fn cpuinfo(_: &View<'_>, text: &mut Text) -> Result<()> {
    let id = CpuId::new();
    let (vendor, brand, names) = (id.get_vendor_info(), id.get_processor_brand_string(), feature_names(&id)?);
    let features = id.get_feature_info();
    let features = features.as_ref();
    let bits = id.get_processor_capacity_feature_info();
    let processor = Processor {
        vendor: vendor.as_ref().map_or("unknown", |vendor| vendor.as_str()),
        model_name: brand.as_ref().map_or("unknown", |brand| brand.as_str().trim()),
        family: features.map_or(0, |features| features.family_id()),
        model: features.map_or(0, |features| features.model_id()),
        stepping: features.map_or(0, |features| features.stepping_id()),
        clock_khz: id
            .get_processor_frequency_info()
            .map_or(0, |info| u64::from(info.processor_base_frequency()) * 1000),
        cache_kib: id.get_l2_l3_cache_and_tlb_info().map_or(0, |cache| cache.l2cache_size()),
        cpuid_level: vendor.as_ref().map_or(0, |_| raw_cpuid::cpuid!(0).eax),
        features: &names,
        flush_size: features.map_or(64, |features| u32::from(features.cflush_cache_line_size()) * 8),
        address_bits: bits.map_or((36, 48), |bits| (bits.physical_address_bits(), bits.linear_address_bits())),
    };
    paragraphs(&processor, machine::cpu::count(), text);
    Ok(())
}

fn paragraphs(cpu: &Processor<'_>, count: usize, text: &mut Text) {
    let (mhz, khz) = (cpu.clock_khz / 1000, cpu.clock_khz % 1000);
    // Two loops of delay a cycle: what Linux computes from a TSC.
    let bogomips = cpu.clock_khz / 5;
    for index in 0..count {
        text.put(format_args!("processor\t: {index}\nvendor_id\t: {}\n", cpu.vendor));
        text.put(format_args!(
            "cpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\n",
            cpu.family, cpu.model, cpu.model_name
        ));
        text.put(format_args!("stepping\t: {}\ncpu MHz\t\t: {mhz}.{khz:03}\n", cpu.stepping));
        if cpu.cache_kib > 0 {
            text.put(format_args!("cache size\t: {} KB\n", cpu.cache_kib));
        }
        text.put(format_args!("physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {index}\ncpu cores\t: {count}\n"));
        text.put(format_args!("apicid\t\t: {index}\ninitial apicid\t: {index}\n"));
        text.put(format_args!("fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\n", cpu.cpuid_level));
        text.put(format_args!("flags\t\t: "));
        text.bytes(cpu.features);
        text.put(format_args!("\nbugs\t\t: \n"));
        text.put(format_args!("bogomips\t: {}.{:02}\n", bogomips / 100, bogomips % 100));
        text.put(format_args!("clflush size\t: {0}\ncache_alignment\t: {0}\n", cpu.flush_size));
        let (physical, virtual_) = cpu.address_bits;
        text.put(format_args!("address sizes\t: {physical} bits physical, {virtual_} bits virtual\n"));
        text.put(format_args!("power management:\n\n"));
    }
}

/// Linux's names of the features that programs look for.
fn feature_names(id: &CpuId<CpuIdReaderNative>) -> Result<Vec<u8>> {
    let mut names = Text::new();
    let mut add = |present: bool, name: &str| {
        if present {
            let space = if names.len() > 0 { " " } else { "" };
            names.put(format_args!("{space}{name}"));
        }
    };
    if let Some(basic) = id.get_feature_info() {
        add(basic.has_fpu(), "fpu");
        add(basic.has_tsc(), "tsc");
        add(basic.has_msr(), "msr");
        add(basic.has_pae(), "pae");
        add(basic.has_cmpxchg8b(), "cx8");
        add(basic.has_apic(), "apic");
        add(basic.has_sysenter_sysexit(), "sep");
        add(basic.has_pge(), "pge");
        add(basic.has_cmov(), "cmov");
        add(basic.has_pat(), "pat");
        add(basic.has_clflush(), "clflush");
        add(basic.has_mmx(), "mmx");
        add(basic.has_fxsave_fxstor(), "fxsr");
        add(basic.has_sse(), "sse");
        add(basic.has_sse2(), "sse2");
        add(basic.has_htt(), "ht");
        add(basic.has_sse3(), "pni");
        add(basic.has_pclmulqdq(), "pclmulqdq");
        add(basic.has_ssse3(), "ssse3");
        add(basic.has_fma(), "fma");
        add(basic.has_cmpxchg16b(), "cx16");
        add(basic.has_sse41(), "sse4_1");
        add(basic.has_sse42(), "sse4_2");
        add(basic.has_x2apic(), "x2apic");
        add(basic.has_movbe(), "movbe");
        add(basic.has_popcnt(), "popcnt");
        add(basic.has_aesni(), "aes");
        add(basic.has_xsave(), "xsave");
        add(basic.has_avx(), "avx");
        add(basic.has_f16c(), "f16c");
        add(basic.has_rdrand(), "rdrand");
        add(basic.has_hypervisor(), "hypervisor");
    }
    if let Some(extended) = id.get_extended_processor_and_feature_identifiers() {
        add(extended.has_syscall_sysret(), "syscall");
        add(extended.has_execute_disable(), "nx");
        add(extended.has_1gib_pages(), "pdpe1gb");
        add(extended.has_rdtscp(), "rdtscp");
        add(extended.has_64bit_mode(), "lm");
        add(extended.has_lahf_sahf(), "lahf_lm");
        add(extended.has_svm(), "svm");
        add(extended.has_lzcnt(), "abm");
        add(extended.has_sse4a(), "sse4a");
    }
    if let Some(more) = id.get_extended_feature_info() {
        add(more.has_fsgsbase(), "fsgsbase");
        add(more.has_bmi1(), "bmi1");
        add(more.has_avx2(), "avx2");
        add(more.has_smep(), "smep");
        add(more.has_bmi2(), "bmi2");
        add(more.has_rep_movsb_stosb(), "erms");
        add(more.has_rdseed(), "rdseed");
        add(more.has_adx(), "adx");
        add(more.has_smap(), "smap");
        add(more.has_clflushopt(), "clflushopt");
        add(more.has_clwb(), "clwb");
        add(more.has_sha(), "sha_ni");
        add(more.has_umip(), "umip");
        add(more.has_pku(), "pku");
    }
    names.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_paragraph_for_every_cpu() {
        let cpu = Processor {
            vendor: "AuthenticAMD",
            model_name: "QEMU TCG CPU",
            family: 15,
            model: 107,
            stepping: 1,
            clock_khz: 2_596_148,
            cache_kib: 512,
            cpuid_level: 13,
            features: b"fpu tsc",
            flush_size: 64,
            address_bits: (40, 48),
        };
        let mut text = Text::new();
        paragraphs(&cpu, 2, &mut text);
        let text = String::from_utf8(text.finish().unwrap()).unwrap();
        assert_eq!(text.matches("processor\t: ").count(), 2);
        assert!(text.contains("model name\t: QEMU TCG CPU\n") && text.contains("cpu MHz\t\t: 2596.148\n"));
        assert!(text.contains("flags\t\t: fpu tsc\nbugs") && text.contains("apicid\t\t: 1\ninitial apicid\t: 1\n"));
        assert!(text.contains("bogomips\t: 5192.29\n") && text.ends_with("power management:\n\n"));
    }

    #[test]
    fn names_are_those_linux_has() {
        let linux = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let line = linux.lines().find(|line| line.starts_with("flags")).unwrap();
        let linux: Vec<&str> = line.split_whitespace().collect();
        let names = String::from_utf8(feature_names(&CpuId::new()).unwrap()).unwrap();
        for name in ["fpu", "sse2", "syscall", "nx", "lm"] {
            assert!(names.split(' ').any(|feature| feature == name) && linux.contains(&name), "{name} in {names:?}");
        }
    }
}
