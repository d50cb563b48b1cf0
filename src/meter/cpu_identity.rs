//! Which processor this is, from the text of Linux's `/proc/cpuinfo`.

/// The numbers and names by which a processor is told apart. `None` where the machine does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuIdentity {
    /// CPUID's vendor text (`GenuineIntel`), or an ARM core's implementer (`0x41`).
    pub vendor: Option<String>,
    /// CPUID's display family, or an ARM core's architecture version.
    pub family: Option<u32>,
    /// CPUID's display model, or an ARM core's part number.
    pub model: Option<u32>,
    /// CPUID's stepping, or an ARM core's revision.
    pub stepping: Option<u32>,
    /// The name for people. Virtual machines often show a bare "Intel(R) Xeon(R) Processor".
    pub model_name: Option<String>,
    /// Whether the processor says that it is virtual; always false on ARM, which does not say.
    pub hypervisor: bool,
    /// Logical CPUs that the text lists.
    pub cpus: usize,
}

impl CpuIdentity {
    /// Reads the first processor of a `/proc/cpuinfo` text, x86 or ARM; the others only count.
    pub fn from_cpuinfo(text: &str) -> Self {
        let fields = || {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key.trim(), value.trim()))
        };
        let first = |names: [&str; 2]| {
            fields().find(|(key, value)| names.contains(key) && !value.is_empty()).map(|(_, value)| value)
        };
        let flags = first(["flags", "Features"]).unwrap_or_default();
        Self {
            vendor: first(["vendor_id", "CPU implementer"]).map(str::to_owned),
            family: first(["cpu family", "CPU architecture"]).and_then(number),
            model: first(["model", "CPU part"]).and_then(number),
            stepping: first(["stepping", "CPU revision"]).and_then(number),
            model_name: first(["model name", "Model"]).map(str::to_owned),
            hypervisor: flags.split_whitespace().any(|flag| flag == "hypervisor"),
            cpus: fields().filter(|(key, _)| *key == "processor").count(),
        }
    }
}

/// A decimal number, or a hexadecimal one after `0x` as ARM kernels print them.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
stepping\t: 6
microcode\t: 0xd0003d1
flags\t\t: fpu vme avx512f hypervisor lahf_lm
power management:

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
stepping\t: 6
";

    const ARM: &str = "\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
";

    #[test]
    fn an_x86_text_gives_cpuid_numbers_and_the_count_of_logical_cpus() {
        let cpu = CpuIdentity::from_cpuinfo(X86);
        assert_eq!(cpu.vendor.as_deref(), Some("GenuineIntel"));
        assert_eq!((cpu.family, cpu.model, cpu.stepping), (Some(6), Some(106), Some(6)));
        assert_eq!(cpu.model_name.as_deref(), Some("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"));
        assert!(cpu.hypervisor);
        assert_eq!(cpu.cpus, 2);
    }

    #[test]
    fn an_arm_text_gives_implementer_and_part() {
        let cpu = CpuIdentity::from_cpuinfo(ARM);
        assert_eq!(cpu.vendor.as_deref(), Some("0x41"));
        assert_eq!((cpu.family, cpu.model, cpu.stepping), (Some(8), Some(0xd0c), Some(1)));
        assert_eq!((cpu.model_name, cpu.hypervisor, cpu.cpus), (None, false, 1));
    }

    #[test]
    fn what_is_missing_or_not_a_number_is_none() {
        assert_eq!(CpuIdentity::from_cpuinfo(""), CpuIdentity::default());
        let text = "processor : 0\nvendor_id :\ncpu family : six\nmodel : 99999999999\nno colon here\n";
        let cpu = CpuIdentity::from_cpuinfo(text);
        assert_eq!(cpu, CpuIdentity { cpus: 1, ..CpuIdentity::default() });
    }
}
