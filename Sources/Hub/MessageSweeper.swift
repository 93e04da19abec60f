import Console
import LinuxIO
import Registry

/// Takes back what a device has held for too long, and removes messages and begun uploads whose time is over. Looks every second, on the
/// main reactor.
final class MessageSweeper: Source {
    /// Messages removed in one go; other writes have their turn in between.
    private static let batch = 256

    private let core: HubCore
    private var isBusy = false
    /// Looks until uploads are looked at, which nothing but the room depends on.
    private var looksUntilUploads = 0
    private static let looksBetweenUploads = 600

    init(core: HubCore, on reactor: Reactor) {
        self.core = core
        super.init()
        reactor.add(self)
        reactor.setDeadline(of: self, inMilliseconds: 1000)
    }

    override var isBackground: Bool { true }

    override func deadlinePassed(on reactor: Reactor) {
        reactor.setDeadline(of: self, inMilliseconds: 1000)
        if looksUntilUploads == 0 {
            looksUntilUploads = Self.looksBetweenUploads
            core.registry.submit(.expireUploads, to: core.writer) { _ in }
        }
        looksUntilUploads -= 1
        for (device, message) in core.locks.overdue() { core.settle(message, of: device, .abandon) }
        guard !isBusy, let first = try? core.registry.nextExpiry(), first <= .now else { return }
        isBusy = true
        let token = self.token, mailbox = reactor.mailbox
        core.registry.submit(.expireMessages(limit: Self.batch), to: core.writer) { result in
            mailbox.send { reactor in
                guard let sweeper = reactor.source(token) as? MessageSweeper else { return }
                sweeper.isBusy = false
                if case .success(.removed(Self.batch)) = result { reactor.setDeadline(of: sweeper, inMilliseconds: 0) }
            }
        }
    }
}
