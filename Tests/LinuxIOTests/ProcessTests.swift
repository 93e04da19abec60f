import LinuxIO
import Testing

@Suite struct ProcessTests {
    @Test func knowsItsArguments() {
        #expect(Process.arguments == CommandLine.arguments)
        #expect(!Process.arguments.isEmpty)
    }
}
