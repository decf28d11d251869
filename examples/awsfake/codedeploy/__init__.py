"""CodeDeploy, blue/green on ECS: what moto lacks of it, on the double's clock.

A deployment goes through its lifecycle by itself, moves the real weights of the double's load
balancer as CodeDeploy moves them, calls hooks (`GET /double/hooks` tells of each), stops when one
of its alarms fires, and is rolled back by a deployment of its own.

    configs      deployment configurations: predefined and custom ones, as increments
    appspec      what an AppSpec file says, and what is wrong with it
    running      one deployment: its lifecycle as a script over time
    state        all of one account and region; time passes here
    operations   the API: what is asked, answered and refused

What AWS does where no document says so is assumed, and named in `running.ASSUMED`.
"""
