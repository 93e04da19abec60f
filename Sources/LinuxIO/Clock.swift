import CLinux
import Glibc

/// The two clocks. Deadlines use the monotonic one; tokens, certificates and records the wall clock.
package enum Clock {
    /// Milliseconds since some moment in the past; never steps.
    package static var milliseconds: UInt64 { clx_monotonic_ms() }

    /// Nanoseconds since some moment in the past; never steps. For measuring.
    package static var nanoseconds: UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec)
    }

    /// Seconds since 1970-01-01 UTC, leap seconds not counted.
    package static var unixSeconds: Int64 { Int64(time(nil)) }

    /// Microseconds since 1970-01-01 UTC.
    package static var unixMicroseconds: Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }
}
