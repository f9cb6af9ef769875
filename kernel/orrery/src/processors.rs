//! The CPUs as /proc/cpuinfo describes them. CPUID is no privileged instruction: any program may ask, and so does this.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use fs::procfs::Processor;
use raw_cpuid::CpuId;

/// What the CPU this runs on says of itself, once for each of `count` CPUs: they are taken to be alike.
#[expect(clippy::disallowed_methods, reason = "as many as there are CPUs, and names of their features")]
pub fn describe(count: usize) -> Vec<Processor> {
    let one = this_one();
    (0..count).map(|number| Processor { apic: number as u32, ..one.clone() }).collect()
}

#[expect(clippy::disallowed_methods, reason = "as many as there are CPUs, and names of their features")]
fn this_one() -> Processor {
    let id = CpuId::new();
    let vendor = id.get_vendor_info();
    let features = id.get_feature_info();
    let brand = id.get_processor_brand_string();
    let bits = id.get_processor_capacity_feature_info();
    Processor {
        vendor: vendor.as_ref().map_or("unknown", |vendor| vendor.as_str()).to_string(),
        model_name: brand.as_ref().map_or("unknown", |brand| brand.as_str().trim()).to_string(),
        family: features.as_ref().map_or(0, |features| features.family_id().into()),
        model: features.as_ref().map_or(0, |features| features.model_id().into()),
        stepping: features.as_ref().map_or(0, |features| features.stepping_id().into()),
        clock_khz: id
            .get_processor_frequency_info()
            .map_or(0, |info| u32::from(info.processor_base_frequency()) as u64 * 1000),
        cache_kib: id.get_l2_l3_cache_and_tlb_info().map_or(0, |cache| cache.l2cache_size().into()),
        apic: 0,
        cpuid_level: id.get_vendor_info().map_or(0, |_| highest_leaf()),
        features: feature_names(&id),
        flush_size: features.as_ref().map_or(64, |features| u32::from(features.cflush_cache_line_size()) * 8),
        address_bits: bits
            .as_ref()
            .map_or((36, 48), |bits| (bits.physical_address_bits().into(), bits.linear_address_bits().into())),
    }
}

fn highest_leaf() -> u32 {
    raw_cpuid::cpuid!(0).eax
}

/// Linux's names of the features that programs look for.
#[expect(clippy::disallowed_methods, reason = "as many as there are CPUs, and names of their features")]
fn feature_names(id: &CpuId<raw_cpuid::CpuIdReaderNative>) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut add = |present: bool, name: &'static str| {
        if present {
            names.push(name);
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
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_agrees_with_linux() {
        let linux = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let field = |name: &str| {
            let line = linux.lines().find(|line| line.split(':').next().unwrap().trim() == name).unwrap();
            line.split(':').nth(1).unwrap().trim().to_string()
        };
        let described = describe(2);
        assert_eq!(described.len(), 2);
        assert_eq!(described[1].vendor, field("vendor_id"));
        assert_eq!(described[1].family.to_string(), field("cpu family"));
        assert_eq!(described[1].model.to_string(), field("model"));
        let flags = field("flags");
        let flags: Vec<&str> = flags.split_whitespace().collect();
        for name in ["fpu", "sse2", "syscall", "nx", "lm"] {
            assert!(described[0].features.split(' ').any(|feature| feature == name) && flags.contains(&name), "{name}");
        }
    }
}
