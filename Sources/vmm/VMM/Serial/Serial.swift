internal import Linux
internal import Synchronization
internal import VMControl

/// A 16550A UART whose receiver never gets anything: the boot console.
///
/// It takes bytes at once, so its transmitter is always empty; what remains are the registers by
/// which Linux's 8250 driver finds out what it has, and the interrupt that asks for more bytes.
final class Serial: Sendable {
    /// The first port, and how many there are.
    static let ports: ClosedRange<UInt16> = 0x3f8...0x3ff

    /// Registers by offset from the first port.
    private enum Offset {
        static let data: UInt16 = 0
        static let interruptEnable: UInt16 = 1
        /// Read: interrupt identification.
        ///
        /// Written: FIFO control.
        static let interruptIdentification: UInt16 = 2
        static let lineControl: UInt16 = 3
        static let modemControl: UInt16 = 4
        static let lineStatus: UInt16 = 5
        static let modemStatus: UInt16 = 6
        static let scratch: UInt16 = 7
    }

    private enum Bit {
        static let transmitterEmptyInterrupt: UInt8 = 0x02
        static let noInterrupt: UInt8 = 0x01
        static let fifoEnabled: UInt8 = 0xc0
        static let divisorLatch: UInt8 = 0x80
        static let loop: UInt8 = 0x10
        /// Transmitter holding and shift registers are empty.
        static let transmitterEmpty: UInt8 = 0x60
        /// Clear to send, data set ready, carrier detected.
        static let connected: UInt8 = 0xb0
    }

    /// The registers as a value, for a save.
    struct Saved: Sendable, Equatable {
        var interruptEnable: UInt8 = 0
        var fifoEnabled = false
        var lineControl: UInt8 = 0x03
        var modemControl: UInt8 = 0
        var scratch: UInt8 = 0
        var divisor: UInt16 = 12
        var transmitterInterrupt = false
    }

    private struct State: ~Copyable, Sendable {
        var registers = Saved()
        var log: ConsoleLog?
    }

    private let state: Mutex<State>
    private let interrupt: EventFD

    /// A console with a log or without; `interrupt` is bound to its line.
    init(log: consuming ConsoleLog?, interrupt: consuming EventFD) {
        state = Mutex(State(log: log))
        self.interrupt = interrupt
    }

    func read(_ port: UInt16) -> UInt8 {
        state.withLock { (state) in
            let latched = state.registers.lineControl & Bit.divisorLatch != 0
            switch port - Serial.ports.lowerBound {
            case Offset.data:
                return latched ? UInt8(truncatingIfNeeded: state.registers.divisor) : 0
            case Offset.interruptEnable:
                return latched
                    ? UInt8(truncatingIfNeeded: state.registers.divisor >> 8)
                    : state.registers.interruptEnable
            case Offset.interruptIdentification:
                let fifo = state.registers.fifoEnabled ? Bit.fifoEnabled : 0
                guard state.registers.transmitterInterrupt else { return fifo | Bit.noInterrupt }
                // Reading it acknowledges this kind.
                state.registers.transmitterInterrupt = false
                return fifo | Bit.transmitterEmptyInterrupt
            case Offset.lineControl: return state.registers.lineControl
            case Offset.modemControl: return state.registers.modemControl
            case Offset.lineStatus: return Bit.transmitterEmpty
            case Offset.modemStatus: return Serial.modemStatus(state.registers.modemControl)
            default: return state.registers.scratch
            }
        }
    }

    /// In loop mode the outputs are the inputs, else somebody is connected.
    private static func modemStatus(_ control: UInt8) -> UInt8 {
        guard control & Bit.loop != 0 else { return Bit.connected }
        return (control & 0x02) << 3 | (control & 0x01) << 5 | (control & 0x0c) << 4
    }

    func write(_ port: UInt16, _ value: UInt8) {
        state.withLock { (state) in
            let latched = state.registers.lineControl & Bit.divisorLatch != 0
            switch port - Serial.ports.lowerBound {
            case Offset.data where latched:
                state.registers.divisor = state.registers.divisor & 0xff00 | UInt16(value)
            case Offset.data:
                if state.registers.modemControl & Bit.loop == 0 { state.log?.append(value) }
                requestMore(&state)
            case Offset.interruptEnable where latched:
                state.registers.divisor = state.registers.divisor & 0x00ff | UInt16(value) << 8
            case Offset.interruptEnable:
                state.registers.interruptEnable = value & 0x0f
                requestMore(&state)
            case Offset.interruptIdentification: state.registers.fifoEnabled = value & 1 != 0
            case Offset.lineControl: state.registers.lineControl = value
            case Offset.modemControl: state.registers.modemControl = value & 0x1f
            case Offset.scratch: state.registers.scratch = value
            default: break
            }
        }
    }

    /// The transmitter is empty: the driver is told if it wants to be.
    private func requestMore(_ state: inout State) {
        let wanted = state.registers.interruptEnable & Bit.transmitterEmptyInterrupt != 0
        state.registers.transmitterInterrupt = wanted
        if wanted { interrupt.signal() }
    }

    /// Writes out what the log has gathered.
    func flush() {
        state.withLock { (state) in state.log?.flush() }
    }

    func save() -> Saved {
        state.withLock { (state) in state.registers }
    }

    /// Puts the registers back; a driver that waits for the transmitter is told again.
    func restore(_ saved: Saved) {
        state.withLock { (state) in
            state.registers = saved
            requestMore(&state)
        }
    }
}
