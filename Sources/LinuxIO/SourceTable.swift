/// Names a source of one reactor: a slot and the generation that lived in it. A plain value that any thread may keep;
/// once the source has gone it matches nothing.
public struct Token: Hashable, Sendable {
    package let slot, generation: UInt32

    package init(slot: UInt32, generation: UInt32) {
        self.slot = slot
        self.generation = generation
    }

    /// One `epoll_data.u64`.
    init(packed: UInt64) {
        slot = UInt32(truncatingIfNeeded: packed)
        generation = UInt32(packed >> 32)
    }

    var packed: UInt64 { UInt64(generation) << 32 | UInt64(slot) }
}

/// The sources of a reactor. Each slot is also a node of a hashed timer wheel, one deadline to a source.
///
/// Moving a deadline later, the common case, is a store: the node is looked at again when its old place comes up.
struct SourceTable: ~Copyable {
    private struct Slot {
        var source: Source?
        var generation: UInt32 = 1
        var deadline: UInt64 = 0  // in ticks; 0: none
        var linkedAt: UInt64 = 0  // the tick whose wheel list holds the node; 0: not linked
        var previous: Int32 = -1, next: Int32 = -1
    }

    private static let wheelSize = 512
    private var slots: ContiguousArray<Slot> = []
    private var free: ContiguousArray<UInt32> = []
    private var wheel = InlineArray<512, Int32>(repeating: -1)
    private var occupied = InlineArray<8, UInt64>(repeating: 0)  // a bit for each wheel list that is not empty
    private var swept: UInt64 = 0
    private(set) var count = 0
    /// Those that a drain waits for.
    private(set) var foregroundCount = 0

    mutating func insert(_ source: Source) -> Token {
        count += 1
        if !source.isBackground { foregroundCount += 1 }
        if let slot = free.popLast() {
            slots[Int(slot)].source = source
            return Token(slot: slot, generation: slots[Int(slot)].generation)
        }
        slots.append(Slot(source: source))
        return Token(slot: UInt32(slots.count - 1), generation: 1)
    }

    mutating func remove(_ token: Token) {
        guard isLive(token) else { return }
        let index = Int(token.slot)
        unlink(index)
        count -= 1
        if slots[index].source?.isBackground == false { foregroundCount -= 1 }
        slots[index].source = nil
        slots[index].deadline = 0
        slots[index].generation = slots[index].generation == .max ? 1 : slots[index].generation + 1
        free.append(token.slot)
    }

    private func isLive(_ token: Token) -> Bool {
        Int(token.slot) < slots.count && slots[Int(token.slot)].generation == token.generation && slots[Int(token.slot)].source != nil
    }

    subscript(_ token: Token) -> Source? { isLive(token) ? slots[Int(token.slot)].source : nil }

    var all: [Source] { slots.compactMap(\.source) }

    /// Sets the source's deadline to a tick; 0 means none.
    mutating func setDeadline(_ token: Token, _ tick: UInt64) {
        guard isLive(token) else { return }
        let index = Int(token.slot)
        slots[index].deadline = tick
        let linked = slots[index].linkedAt
        guard linked == 0 ? tick != 0 : (tick == 0 || tick < linked) else { return }
        unlink(index)
        if tick != 0 { link(index, max(tick, swept + 1)) }
    }

    private mutating func link(_ index: Int, _ tick: UInt64) {
        let place = Int(tick % UInt64(Self.wheelSize)), first = wheel[place]
        slots[index].linkedAt = tick
        slots[index].previous = -1
        slots[index].next = first
        if first >= 0 { slots[Int(first)].previous = Int32(index) }
        wheel[place] = Int32(index)
        occupied[place / 64] |= 1 << UInt64(place % 64)
    }

    private mutating func unlink(_ index: Int) {
        let node = slots[index]
        guard node.linkedAt != 0 else { return }
        if node.previous >= 0 {
            slots[Int(node.previous)].next = node.next
        } else {
            let place = Int(node.linkedAt % UInt64(Self.wheelSize))
            wheel[place] = node.next
            if node.next < 0 { occupied[place / 64] &= ~(1 << UInt64(place % 64)) }
        }
        if node.next >= 0 { slots[Int(node.next)].previous = node.previous }
        slots[index].linkedAt = 0
    }

    /// The next tick whose list holds anything; a node in it may be due only some rounds later. Nil when no deadline is set.
    func nextTick() -> UInt64? {
        var ahead = 1
        while ahead <= Self.wheelSize {
            let place = Int((swept + UInt64(ahead)) % UInt64(Self.wheelSize)), bits = occupied[place / 64] >> UInt64(place % 64)
            if bits != 0 { return swept + UInt64(min(ahead + bits.trailingZeroBitCount, Self.wheelSize)) }
            ahead += 64 - place % 64
        }
        return nil
    }

    /// Collects what is due; the caller fires it afterwards, so that a callback may touch the table.
    mutating func sweep(to tick: UInt64, into due: inout [Token]) {
        while swept < tick {
            swept += 1
            var index = Int(wheel[Int(swept % UInt64(Self.wheelSize))])
            while index >= 0 {
                let node = slots[index]
                if node.linkedAt <= swept {
                    unlink(index)
                    if node.deadline > swept {
                        link(index, node.deadline)
                    } else if node.deadline != 0 {
                        slots[index].deadline = 0
                        due.append(Token(slot: UInt32(index), generation: node.generation))
                    }
                }
                index = Int(node.next)
            }
        }
    }
}
