//! GPU runs without Rust on the GPU's machine: `pack` makes a bundle to carry there, `collect` files what comes back.
//! docs/gpu-runs.md tells the whole way.

mod collect;
mod manifest;
mod pack;
mod part;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

/// Runs `gpu pack` or `gpu collect`.
///
/// # Errors
///
/// Wrong arguments, a build that fails, a bundle that is too large, an archive that cannot be believed.
pub(crate) fn run(repository: &Path, args: &[String]) -> Result<ExitCode> {
    match args.split_first() {
        Some((command, rest)) if command == "pack" => {
            let (mut out, mut facts) = (repository.join("target").join("gpu-bundle"), None);
            let mut rest = rest.iter();
            while let Some(option) = rest.next() {
                let value = PathBuf::from(rest.next().with_context(|| format!("{option} needs a value"))?);
                match option.as_str() {
                    "--out" => out = value,
                    "--facts" => facts = Some(value),
                    _ => bail!("gpu pack knows --out and --facts, not {option}"),
                }
            }
            pack::pack(repository, &out, facts.as_deref())?;
        }
        Some((command, rest)) if command == "collect" => {
            let (options, archives): (Vec<&String>, Vec<&String>) =
                rest.iter().partition(|word| word.starts_with("--"));
            ensure!(options.iter().all(|option| *option == "--force"), "gpu collect knows --force only");
            ensure!(!archives.is_empty(), "gpu collect: expected one or more archives part-NAME.tar.gz");
            for archive in archives {
                collect::collect(repository, Path::new(archive), !options.is_empty())?;
            }
        }
        _ => bail!(
            "expected `gpu pack [--out DIR] [--facts FILE]` or `gpu collect [--force] ARCHIVE...`, found `gpu {}`",
            args.join(" ")
        ),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// Stands in for the product: writes what a run on a GPU leaves.
    const PRODUCT: &str = r#"#!/bin/bash
[[ $1 != --version ]] || exit 0
[[ $1 != doctor ]] || { echo '{"libraries": [{"name": "cuDNN", "version": "9.28.0"}]}'; exit; }
while (($#)); do [[ $1 == --out ]] && out="$2"; shift; done
mkdir -p "$out"
echo '<svg/>' >"$out/energy_per_layer.svg"
cat >"$out/run.json" <<JSON
{"schema": "layerjoule.run/1", "device": {"kind": "cuda", "name": "NVIDIA Test"}, "simulated": false,
 "emulated": false, "primary_meter": "nvml", "kinds": [], "layers": [], "warnings": [],
 "closure": [{"phase": "forward", "residual_ratio": 0.01}]}
JSON
"#;
    const NVIDIA_SMI: &str = "#!/bin/bash\n[[ $1 != -L ]] || echo 'GPU 0: NVIDIA Test'\n\
        [[ $1 != --query* ]] || echo 'NVIDIA Test, 580.1'\n";

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_is_packed_runs_and_what_it_leaves_is_collected() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        script(&at("product"), PRODUCT);
        script(&at("machine/nvidia-smi"), NVIDIA_SMI);
        pack::made_up::bundle(&at("bundle"), &at("product"));
        let search = format!("{}:{}", at("machine").display(), std::env::var("PATH").unwrap());
        let ran = Command::new(at("bundle/run.sh"))
            .arg("vgg16")
            .arg(at("out"))
            .env("PATH", search)
            .env("LAYERJOULE_GPU_WORK", at("work"))
            .env("LAYERJOULE_CUDA_PATH", "/nowhere")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let args = ["collect".to_string(), at("out/part-vgg16.tar.gz").display().to_string()];
        run(&at("repository"), &args).unwrap();
        let filed = at("repository/reports/nvidia-test/vgg16-bf16-nhwc-b64");
        assert_eq!(fs::read_to_string(filed.join("energy_per_layer.svg")).unwrap(), "<svg/>\n");
        let provenance = fs::read_to_string(filed.join("PROVENANCE.toml")).unwrap();
        for line in [
            "commit = \"c0ffee\"",
            "status = \"ok\"",
            "\"cuDNN\" = \"9.28.0\"",
            "\"driver\" = \"580.1\"",
            "vgg16-bf16-nhwc-b64: ./bin/layerjoule profile ./networks/vgg16.toml --device cuda",
        ] {
            assert!(provenance.contains(line), "{line} is not in\n{provenance}");
        }
        // The machine's folders are nobody's business.
        assert!(!provenance.contains(dir.path().to_str().unwrap()), "{provenance}");
    }

    #[test]
    fn wrong_arguments_are_named() {
        let error = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            run(Path::new("/nowhere"), &args).unwrap_err().to_string()
        };
        assert!(error(&["pick"]).ends_with("found `gpu pick`"));
        assert_eq!(error(&["pack", "--out"]), "--out needs a value");
        assert_eq!(error(&["pack", "--in", "x"]), "gpu pack knows --out and --facts, not --in");
        assert_eq!(error(&["collect", "--all", "x"]), "gpu collect knows --force only");
        assert_eq!(error(&["collect"]), "gpu collect: expected one or more archives part-NAME.tar.gz");
    }
}
