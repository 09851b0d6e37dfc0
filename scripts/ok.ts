/**
 * Everything that must hold before a commit lands, in order; stops at the first failure with its name. Run by
 * `deno task ok`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

const deno = Deno.execPath();
const rust = ["--manifest-path", "rust/Cargo.toml"];

const checks: readonly (readonly [name: string, program: string, ...args: string[]])[] = [
  ["format", deno, "fmt", "--check"],
  ["lint", deno, "lint"],
  ["types", deno, "check"],
  [
    "documentation",
    deno,
    "doc",
    "--lint",
    "mod.ts",
    "src/kernels.ts",
    "src/formats/onnx.ts",
    "src/formats/image_folder.ts",
    "src/formats/parquet.ts",
  ],
  ["generated files", deno, "task", "gen", "--check"],
  ["what would be published", deno, "publish", "--dry-run", "--allow-dirty", "--quiet"],
  ["format of Rust", "cargo", "fmt", "--all", "--check", ...rust],
  ["lint of Rust", "cargo", "clippy", "--workspace", "--all-targets", "--locked", ...rust, "--", "-D", "warnings"],
  ["tests of Rust", deno, "task", "test:rust"],
  ["tests", deno, "task", "test"],
];

for (const [name, program, ...args] of checks) {
  console.log(`── ${name}`);
  const { success } = await new Deno.Command(program, { args, stdin: "null" }).spawn().status;
  if (success) continue;
  console.error(`error: The check "${name}" failed: ${program === deno ? "deno" : program} ${args.join(" ")}`);
  Deno.exit(1);
}
console.log(`── all ${checks.length} checks hold`);
