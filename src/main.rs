//! The `rfgraph` program. All of it is in the library's `cli`.

fn main() -> std::process::ExitCode {
    rfgraph::cli::main()
}
