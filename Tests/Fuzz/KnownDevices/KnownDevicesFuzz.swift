import FuzzSupport
import Trust

@main
enum KnownDevicesFuzz {
    static func main() {
        runFuzzer(fuzzKnownDevices)
    }
}

private func fuzzKnownDevices(_ input: inout FuzzInput) {
    for line in LineFile.split(input.bytes) {
        do throws(PinnedKey.Malformed) {
            guard let pin = try PinnedKey(parsing: line) else { continue }
            let again: PinnedKey?
            do throws(PinnedKey.Malformed) { again = try PinnedKey(parsing: pin.line) } catch { again = nil }
            check(again == pin, "a pin is read as it is written")
            check(!pin.line.utf8.contains(10), "a pin is one line")
            check(Fingerprint(pin.fingerprint.description) == pin.fingerprint, "a fingerprint has one spelling")
        } catch {
            check(!error.reason.isEmpty, "a bad line has a reason")
        }
    }
}
