import CLinux
import Glibc

/// SIGINT, SIGTERM, SIGHUP and SIGCHLD as events of a reactor.
package final class Signals: Source {
    private let descriptor: OwnedDescriptor
    private let received: (CInt, Reactor) -> Void

    /// Call first in main: threads started later inherit the mask. SIGPIPE is ignored for good.
    package static func block() { clx_block_signals() }

    package init(on reactor: Reactor, received: @escaping (CInt, Reactor) -> Void) throws(SystemError) {
        descriptor = OwnedDescriptor(adopting: try checked(clx_signalfd(), "signalfd"))
        self.received = received
        super.init()
        try reactor.add(self, descriptor: descriptor.raw, .readable)
    }

    public override func ready(_ readiness: Readiness, on reactor: Reactor) {
        while case let number = clx_signalfd_read(descriptor.raw), number > 0 { received(number, reactor) }
    }

    public override var isBackground: Bool { true }
    public override func abort(on reactor: Reactor) { reactor.remove(self, descriptor: descriptor.raw) }
}
