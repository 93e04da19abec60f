import Glibc
import LinuxIO
import Synchronization
import Wire

/// The keys that devices have shown, in a file that people may edit: what is written there at the first stream counts from then on.
///
/// Empty lines and lines that begin with `#` mean nothing. Of several lines for one device any may fit. A line that cannot be read is
/// reported once and costs nobody else anything; but one that names a device without a key stops streams to that device, so that a
/// damaged file never makes an old acquaintance a new one.
package final class KnownDevices: Sendable {
    /// What the file says of a key.
    package enum Verdict: Equatable, Sendable {
        case known
        /// Nothing is written of this device.
        case new
        /// The device has another key there: at this line (from 1), the last one of the device.
        case changed(line: Int, old: Fingerprint)
    }

    /// A pin and where it stands.
    package struct Entry: Equatable, Sendable {
        /// From 1.
        package let line: Int
        package let pin: PinnedKey
    }

    /// The file's name, for people.
    package let path: String
    private let file: LineFile?
    private let complain: @Sendable (String) -> Void
    private let state = Mutex(State())

    private struct State {
        var complained: Set<String> = []
        /// What could not be written down is remembered for as long as the process runs.
        var unwritten: [PinnedKey] = []
        /// What the file said when it had this stamp.
        var stamp: FileStamp?
        var contents = Contents()
    }

    private struct Contents: Sendable {
        var entries: [Entry] = []
        /// Places in `entries`, and lines that name a device and no key.
        var byName: [Name: [Int]] = [:], damaged: [Name: Int] = [:]
    }

    private struct Name: Hashable {
        let hub: String
        let device: ClientIdentity
    }

    /// - Parameters:
    ///   - path: nil for what ends with the process.
    ///   - complain: gets one line for each line of the file that cannot be read, once.
    package init(path: String?, complain: @escaping @Sendable (String) -> Void = { _ in }) {
        self.path = path ?? "memory"
        file = path.map { LineFile(path: $0) }
        self.complain = complain
    }

    /// Compares with what the file says now.
    /// - Parameter hub: host, and port where it is not 443.
    /// Throws when the file is there and cannot be read, or says something about the device that cannot be understood.
    package func verdict(hub: HostPort, device: ClientIdentity, fingerprint: Fingerprint) throws(TrustError) -> Verdict {
        let pins = try pins(hub: hub, device: device)
        if pins.contains(where: { $0.pin.fingerprint == fingerprint }) { return .known }
        let old = pins.last
        let unwritten = state.withLock { $0.unwritten }.filter { $0.hub == PinnedKey.name(of: hub) && $0.device == device }
        if unwritten.contains(where: { $0.fingerprint == fingerprint }) { return .known }
        if let old { return .changed(line: old.line, old: old.pin.fingerprint) }
        return unwritten.last.map { .changed(line: 0, old: $0.fingerprint) } ?? .new
    }

    /// What is written of one device; empty when it is a stranger.
    package func pins(hub: HostPort, device: ClientIdentity) throws(TrustError) -> [Entry] {
        let contents = try read(), name = Name(hub: PinnedKey.name(of: hub), device: device)
        if let places = contents.byName[name] { return places.map { contents.entries[$0] } }
        if let line = contents.damaged[name] {
            throw TrustError(.malformed, "\(path):\(line): the key of \(device) cannot be read", "mend the line or remove it")
        }
        return []
    }

    /// Every pin of the file, in its order.
    package func all() throws(TrustError) -> [Entry] { try read().entries }

    /// Writes down the key of a stranger, behind what others may have written meanwhile.
    /// Throws when the file cannot be written; the key is remembered all the same, as long as the process lives.
    /// - Parameter comment: one line.
    /// - Returns: whether the key is there now; false when somebody was faster with another key of the same device.
    @discardableResult
    package func remember(
        hub: HostPort, device: ClientIdentity, fingerprint: Fingerprint, comment: String = ""
    ) throws(TrustError) -> Bool {
        let pin = PinnedKey(hub: hub, device: device, fingerprint: fingerprint, comment: comment)
        var isThere = true
        do throws(SystemError) {
            guard let file else { throw SystemError("open", ENOENT) }
            try file.edit { lines in
                let others = lines.compactMap { try? PinnedKey(parsing: $0) }.filter { $0.hub == pin.hub && $0.device == pin.device }
                if others.isEmpty { return lines + [pin.line] }
                isThere = others.contains { $0.fingerprint == pin.fingerprint }
                return nil
            }
        } catch {
            state.withLock { $0.unwritten.append(pin) }
            throw file == nil ? TrustError(.homeless, "no home directory") : TrustError(error, path)
        }
        return isThere
    }

    /// Takes out every line of a device, of one hub or of all; comments and everybody else's lines stay.
    /// - Returns: how many lines there were.
    package func remove(device: ClientIdentity, hub: HostPort? = nil) throws(TrustError) -> Int {
        guard let file, Files.exists(path) else { return 0 }
        var removed = 0
        let name = hub.map { PinnedKey.name(of: $0) }
        do throws(SystemError) {
            try file.edit { lines in
                let kept = lines.filter { line in
                    let (itsHub, itsDevice): (String, ClientIdentity)
                    do throws(PinnedKey.Malformed) {
                        guard let pin = try PinnedKey(parsing: line) else { return true }
                        (itsHub, itsDevice) = (pin.hub, pin.device)
                    } catch {
                        guard case .keyless(let hub, let device) = error else { return true }
                        (itsHub, itsDevice) = (hub, device)
                    }
                    return itsDevice != device || (name != nil && itsHub != name)
                }
                removed = lines.count - kept.count
                return removed == 0 ? nil : kept
            }
        } catch {
            throw TrustError(error, path)
        }
        return removed
    }

    private func read() throws(TrustError) -> Contents {
        guard let file else { return Contents() }
        let stamp = Files.stamp(path)
        if let stamp, let contents = state.withLock({ $0.stamp == stamp ? $0.contents : nil }) { return contents }
        let lines: [String]
        do throws(SystemError) { lines = try file.lines() ?? [] } catch { throw TrustError(error, path) }
        var contents = Contents()
        for (index, line) in lines.enumerated() {
            do throws(PinnedKey.Malformed) {
                guard let pin = try PinnedKey(parsing: line) else { continue }
                contents.byName[Name(hub: pin.hub, device: pin.device), default: []].append(contents.entries.count)
                contents.entries.append(Entry(line: index + 1, pin: pin))
            } catch {
                if case .keyless(let hub, let device) = error { contents.damaged[Name(hub: hub, device: device)] = index + 1 }
                report("\(path):\(index + 1): \(error.reason)")
            }
        }
        state.withLock { ($0.stamp, $0.contents) = (stamp, contents) }
        return contents
    }

    private func report(_ text: String) {
        if state.withLock({ $0.complained.insert(text).inserted }) { complain(text) }
    }
}
