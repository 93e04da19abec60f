/// What a fuzzer tries with each input; set once, before the first.
nonisolated(unsafe) private var attempt: (inout FuzzInput) -> Void = { _ in }

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// Hands the process to libFuzzer, which calls `body` with one input after another: the whole `main` of a fuzzer.
///
/// A `check` that fails, a trap, a leak or ten seconds on one input is a finding.
package func runFuzzer(_ body: @escaping (inout FuzzInput) -> Void) {
    attempt = body
    var count = CommandLine.argc
    var arguments = CommandLine.unsafeArgv
    _ = runDriver(&count, &arguments) { start, count in
        var input = FuzzInput(start, count)
        attempt(&input)
        return 0
    }
}
