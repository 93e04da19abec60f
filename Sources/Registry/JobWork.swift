import Bytes
import Store
import Wire

// The steps in which a job goes from device to device. Each is one commit, and what it did to devices is noted in it: a hub that dies
// between two steps goes on with the next.

extension Registry {
    static func list(
        _ id: String, _ names: [ClientIdentity], next: String?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> JobStep {
        var job = try job(id, in: transaction)
        guard job.status == .running, !job.isListed else { return JobStep(job: job) }
        for name in names {
            let key = Job.key(id, name)
            let isKnown = try stored { () throws(StoreError) in try transaction.contains(.outcomes, key) }
            guard !isKnown else { continue }
            let record = JobDevice(name, of: job, now: now).record
            try stored { () throws(StoreError) in try transaction.put(.outcomes, key, record) }
            job.counts.devices += 1
        }
        job.listedTo = next
        job.isListed = next == nil
        try save(job, in: transaction)
        return JobStep(job: job, isOver: job.isListed)
    }

    static func updateTwins(
        _ id: String, after: String?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> JobStep {
        var job = try job(id, in: transaction)
        guard job.status == .running, case .updateTwin(let change, let condition) = job.work else { return JobStep(job: job) }
        let (open, last) = try openDevices(of: id, after: after, most: jobDevicesPerStep, in: transaction)
        for (name, device) in open {
            if device.status == .running { job.counts.running -= 1 }
            do {
                try changeTwin(name, change, condition, in: transaction, now: now)
                try end(device, name, .done, of: &job, in: transaction, now: now)
            } catch {
                if case .store = error { throw error }
                try end(device, name, .failed(code: error.name, description: error.message), of: &job, in: transaction, now: now)
            }
        }
        try save(job, in: transaction)
        return JobStep(job: job, names: open.map(\.name), last: last, isOver: last == nil)
    }

    /// Those that were taken before and have no outcome are taken again: the hub died while they were called.
    static func claim(
        _ id: String, after: String?, most: Int, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> JobStep {
        var job = try job(id, in: transaction)
        guard job.status == .running else { return JobStep(job: job) }
        let (open, last) = try openDevices(of: id, after: after, most: most, in: transaction)
        for (name, device) in open {
            var device = device
            if device.status == .pending { job.counts.running += 1 }
            device.begin(now: now)
            let record = device.record
            try stored { () throws(StoreError) in try transaction.put(.outcomes, Job.key(id, name), record) }
        }
        if !open.isEmpty { try save(job, in: transaction) }
        return JobStep(job: job, names: open.map(\.name), last: last, isOver: last == nil)
    }

    static func settle(
        _ id: String, _ outcomes: [(name: ClientIdentity, outcome: JobDevice.Outcome)], in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(RegistryError) -> JobStep {
        var job = try job(id, in: transaction)
        for (name, outcome) in outcomes {
            guard let device = try device(Job.key(id, name), in: transaction), device.status == .running else { continue }
            job.counts.running -= 1
            try end(device, name, outcome, of: &job, in: transaction, now: now)
        }
        try save(job, in: transaction)
        return JobStep(job: job)
    }

    static func sweep(_ id: String, in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) -> JobStep {
        var job = try job(id, in: transaction)
        guard job.status.isOver, !job.isSwept else { return JobStep(job: job) }
        let (open, last) = try openDevices(of: id, after: job.listedTo, most: jobDevicesPerStep * 4, in: transaction)
        let outcome: JobDevice.Outcome =
            job.status == .cancelled ? .canceled : .failed(code: "JobTimeout", description: job.failureReason)
        for (name, device) in open {
            if device.status == .running { job.counts.running -= 1 }
            try end(device, name, outcome, of: &job, in: transaction, now: now)
        }
        // Over, it searches for no devices any more: the mark now says how far it is swept.
        job.listedTo = last
        job.isSwept = last == nil
        try save(job, in: transaction)
        return JobStep(job: job, isOver: job.isSwept)
    }

    static func forget(_ id: String, in transaction: borrowing WriteTransaction) throws(RegistryError) -> JobStep {
        let job = try job(id, in: transaction)
        guard job.status.isOver else { return JobStep(job: job) }
        var keys: [String] = []
        try stored { () throws(StoreError) in
            try transaction.scan(.outcomes, prefix: "\(id)\0") { key, _ throws(StoreError) in
                keys.append(key.toString() ?? "")
                return keys.count < jobDevicesPerStep * 4
            }
            for key in keys { try transaction.delete(.outcomes, key) }
            if keys.isEmpty { try transaction.delete(.jobs, id) }
        }
        return JobStep(job: job, isOver: keys.isEmpty)
    }

    // MARK: - Parts

    private static func device(
        _ key: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> JobDevice? {
        try stored { () throws(StoreError) in
            try transaction.lend(.outcomes, key) { bytes throws(StoreError) in try decode(jobDevice: bytes) }
        }
    }

    static func decode(jobDevice bytes: RawSpan) throws(StoreError) -> JobDevice {
        guard let device = JobDevice(record: bytes) else { throw .damaged(path: "registry", reason: "a job's record of a device") }
        return device
    }

    /// Devices behind `after` that wait or were taken and have no outcome; and the last key that was looked at, nil at the end of all.
    ///
    /// Looks at a few thousand records at the most, so that those that are done cost no long commit.
    private static func openDevices(
        of id: String, after: String?, most: Int, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> (open: [(name: ClientIdentity, device: JobDevice)], last: String?) {
        let prefix = "\(id)\0"
        var open: [(name: ClientIdentity, device: JobDevice)] = []
        var last: String?, looked = 0
        try stored { () throws(StoreError) in
            let from = after.flatMap { $0.hasPrefix(prefix) ? "\($0)\0" : nil }
            try transaction.scan(.outcomes, prefix: prefix, from: from) { key, value throws(StoreError) in
                guard let text = key.toString(), let name = Job.name(inKey: text) else {
                    throw .damaged(path: "registry", reason: "a key of a job's record")
                }
                // Keys of a device's modules stand behind its own.
                let device = try decode(jobDevice: value)
                if device.isOpen { open.append((name, device)) }
                looked += 1
                last = text
                return open.count < most && looked < 4_000
            }
        }
        return (open, open.count < most && looked < 4_000 ? nil : last)
    }

    private static func end(
        _ device: JobDevice, _ name: ClientIdentity, _ outcome: JobDevice.Outcome, of job: inout Job,
        in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        var device = device
        device.end(outcome, now: now)
        switch outcome {
        case .done, .answered: job.counts.succeeded += 1
        case .failed: job.counts.failed += 1
        case .canceled: job.counts.cancelled += 1
        }
        let record = device.record
        try stored { () throws(StoreError) in try transaction.put(.outcomes, Job.key(job.id, name), record) }
    }
}
