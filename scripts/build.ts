/**
 * Builds the native library with cargo. Run by `deno task build`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

const HINT = "Install Rust 1.89 or newer from https://rustup.rs (or your system's packages) and run the command again.";

/** Runs cargo and returns its exit code. */
async function cargo(args: string[], quiet = false): Promise<number> {
  const out = quiet ? "null" : "inherit";
  try {
    const child = new Deno.Command("cargo", { args, stdin: "null", stdout: out, stderr: out }).spawn();
    return (await child.status).code;
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    console.error(`error: Cannot build the native library: cargo was not found on the PATH. ${HINT}`);
    Deno.exit(127);
  }
}

// A rustup shim without a toolchain exists but does not start.
if (await cargo(["--version"], true) !== 0) {
  console.error(`error: Cannot build the native library: cargo does not start. ${HINT}`);
  Deno.exit(1);
}
Deno.exit(await cargo(["build", "--release", "--locked", "--manifest-path", "rust/Cargo.toml"]));
