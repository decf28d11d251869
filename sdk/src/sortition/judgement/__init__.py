"""How evidence is weighed and what it decides. Pure: no I/O, no thread, no clock, no chance.

    counts       what is weighed: the counts of one tick, and what is refused
    wealth       capital that is bet against a null, and when it is put in
    rates        tests of rates: worse than control, above a limit, acceptable
    latency      tests of latency histograms: the tail, the order
    mismatch     are the arms as large as they were drawn
    calibration  what A/A history says of noise
    intervals    what is shown: time-uniform intervals
    ab           how two versions differ, where nothing is to be decided
    design       what is fixed before the first count comes in
    evidence     all tests of one comparison, tick by tick
    policy       what follows from all that is seen
    telling      what people are shown of a guard
    trial        a rollout's looks, and their replay
    series       a recorded rollout as lines of JSON, replayed beside what was decided
    planning     what a step can and cannot detect
    traffic      what simulated arms report
    simulation   what a policy would do

Every test is an e-process: a process E, at first 1, whose expectation at any time is at most 1
while its null holds. So however often somebody looks, P(E ever reaches 1/alpha) is at most alpha
(Ville 1939), and "1,270 : 1 against no harm" means what it says.
"""
