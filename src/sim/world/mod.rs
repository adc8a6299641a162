//! Fakes of every port that model faults, and the runtime of a simulated node.
