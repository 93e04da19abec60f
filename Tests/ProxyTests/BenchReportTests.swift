import Testing
import Wire

@testable import Proxy

@Suite struct BenchReportTests {
    @Test func takesTheQuantilesOfWhatItWasGiven() {
        let times = BenchTimes((1...100).reversed().map { UInt64($0) * 1000 })
        #expect(times.quantile(0) == 1000)
        #expect(times.quantile(0.5) == 51_000)
        #expect(times.quantile(0.99) == 100_000)
        #expect(times.quantile(1) == 100_000)
        #expect(BenchTimes([]).quantile(0.5) == nil)
        #expect(BenchTimes([7]).quantile(0.99) == 7)
        #expect(BenchTimes([]).document == nil)
    }

    @Test(arguments: [(0, "0.000 ms"), (999, "0.001 ms"), (1_234_567, "1.235 ms"), (2_000_000_000, "2000.000 ms")] as [(UInt64, String)])
    func showsMilliseconds(time: UInt64, text: String) { #expect(BenchReport.text(time) == text) }

    @Test func leavesOutWhatWasNotMeasured() throws {
        let client = try #require(ClientIdentity(deviceID: "d"))
        var report = BenchReport(target: StreamTarget(client: client, remote: "22"), hub: HostPort(host: "h", port: nil), proxy: nil)
        report.mode = "blind"
        report.opening = [BenchReport.Hop(key: "total", title: "", times: BenchTimes([1_500_000]))]
        #expect(
            report.document.text()
                == """
                {"device":"d","remote":"22","hub":"h","mode":"blind","endToEnd":true,"hubMilliseconds":{},\
                "streamMilliseconds":{"total":{"count":1,"min":1.5,"p50":1.5,"p99":1.5}}}
                """)
    }
}
