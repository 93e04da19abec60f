import Testing
import Wire

@Suite struct ByteRateTests {
    @Test(arguments: [
        ("1", 1), ("4096", 4096), ("4096B", 4096), ("4096B/s", 4096), ("1kB/s", 1000), ("1KB/s", 1000), ("500kB/s", 500_000),
        ("1MB/s", 1_000_000), ("1MB", 1_000_000), ("2MiB/s", 2 << 20), ("1KiB", 1024), ("3GiB/s", 3 << 30), ("1GB/s", 1_000_000_000),
        ("10Mbit/s", 1_250_000), ("8bit/s", 1), ("1Gbit", 125_000_000), ("1.5MB/s", 1_500_000), ("0.25kB/s", 250),
        ("1000GB/s", 1_000_000_000_000), ("1.000001MB", 1_000_001), ("1.5B", 1),
    ])
    func readsWhatPeopleWrite(text: String, rate: Int) { #expect(ByteRate.parse(text) == rate) }

    @Test(arguments: [
        "", "0", "0MB/s", "-1", "+1", "1 MB/s", "1Mb/s", "1M", "1mb/s", "1MB/h", "1MBs", "MB/s", "1/s", "1..5MB", "1.MB", ".5MB", "1,5MB",
        "1bits", "7bit/s", "1001GB/s", "99999999999999999999", "9999999999999GiB/s", "1.0000001MB", "fast", "none", "1MB/s ", "1TB/s",
    ])
    func refusesTheRest(text: String) { #expect(ByteRate.parse(text) == nil) }

    @Test(arguments: [
        (1, "1B/s"), (1000, "1kB/s"), (1024, "1KiB/s"), (1_000_000, "1MB/s"), (1 << 21, "2MiB/s"), (1_250_000, "1250kB/s"),
        (1_000_000_000_000, "1000GB/s"),
    ])
    func writesWhatItReads(rate: Int, text: String) {
        #expect(ByteRate.text(rate) == text)
        #expect(ByteRate.parse(text) == rate)
    }
}
