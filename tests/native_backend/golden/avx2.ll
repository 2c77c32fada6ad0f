define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) #0 {
entry:
  %d0.p = getelementptr inbounds i64, ptr %dims, i64 0
  %d0 = load i64, ptr %d0.p
  %b0.p = getelementptr inbounds ptr, ptr %args, i64 0
  %b0 = load ptr, ptr %b0.p
  %b1.p = getelementptr inbounds ptr, ptr %results, i64 0
  %b1 = load ptr, ptr %b1.p
  %b2.p = getelementptr inbounds ptr, ptr %results, i64 1
  %b2 = load ptr, ptr %b2.p, !dereferenceable !14
  %0 = sub i64 %d0, 0
  %1 = call i64 @llvm.smax.i64(i64 %0, i64 0)
  %2 = and i64 %1, -8
  %3 = add i64 0, %2
  %4 = icmp slt i64 0, %3
  br i1 %4, label %L1, label %L2
L1:
  %5 = phi i64 [ 0, %entry ], [ %10, %L1 ]
  %6 = getelementptr inbounds float, ptr %b0, i64 %5
  %7 = load <8 x float>, ptr %6, align 4, !alias.scope !7
  %t8.a = fcmp ogt <8 x float> splat (float 0x0000000000000000), %7
  %8 = select <8 x i1> %t8.a, <8 x float> splat (float 0x0000000000000000), <8 x float> %7
  %9 = getelementptr inbounds float, ptr %b1, i64 %5
  store <8 x float> %8, ptr %9, align 4, !alias.scope !8, !noalias !9
  %10 = add nsw i64 %5, 8
  %11 = icmp slt i64 %10, %3
  br i1 %11, label %L1, label %L2, !llvm.loop !10
L2:
  %12 = icmp slt i64 %3, %d0
  br i1 %12, label %L3, label %L4
L3:
  %13 = phi i64 [ %3, %L2 ], [ %18, %L3 ]
  %14 = getelementptr inbounds float, ptr %b0, i64 %13
  %15 = load float, ptr %14, align 4, !alias.scope !7
  %t16.a = fcmp ogt float 0x0000000000000000, %15
  %16 = select i1 %t16.a, float 0x0000000000000000, float %15
  %17 = getelementptr inbounds float, ptr %b1, i64 %13
  store float %16, ptr %17, align 4, !alias.scope !8, !noalias !9
  %18 = add nsw i64 %13, 1
  %19 = icmp slt i64 %18, %d0
  br i1 %19, label %L3, label %L4, !llvm.loop !11
L4:
  br label %L5
L5:
  %20 = phi i64 [ 0, %L4 ], [ %25, %L5 ]
  %21 = phi <8 x float> [ splat (float 0x8000000000000000), %L4 ], [ %24, %L5 ]
  %22 = getelementptr inbounds float, ptr %b1, i64 %20
  %23 = load <8 x float>, ptr %22, align 4, !alias.scope !8, !noalias !9
  %24 = fadd <8 x float> %21, %23
  %25 = add nsw i64 %20, 8
  %26 = icmp slt i64 %25, 96
  br i1 %26, label %L5, label %L6, !llvm.loop !12
L6:
  %27 = shufflevector <8 x float> %24, <8 x float> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  %28 = shufflevector <8 x float> %24, <8 x float> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
  %29 = fadd <4 x float> %27, %28
  %30 = shufflevector <4 x float> %29, <4 x float> poison, <2 x i32> <i32 0, i32 1>
  %31 = shufflevector <4 x float> %29, <4 x float> poison, <2 x i32> <i32 2, i32 3>
  %32 = fadd <2 x float> %30, %31
  %33 = shufflevector <2 x float> %32, <2 x float> poison, <1 x i32> <i32 0>
  %34 = shufflevector <2 x float> %32, <2 x float> poison, <1 x i32> <i32 1>
  %35 = fadd <1 x float> %33, %34
  %36 = extractelement <1 x float> %35, i64 0
  %37 = fadd float 0x0000000000000000, %36
  br label %L7
L7:
  %38 = phi i64 [ 96, %L6 ], [ %43, %L7 ]
  %39 = phi float [ %37, %L6 ], [ %42, %L7 ]
  %40 = getelementptr inbounds float, ptr %b1, i64 %38
  %41 = load float, ptr %40, align 4, !alias.scope !8, !noalias !9
  %42 = fadd float %39, %41
  %43 = add nsw i64 %38, 1
  %44 = icmp slt i64 %43, 100
  br i1 %44, label %L7, label %L8, !llvm.loop !13
L8:
  store float %42, ptr %b2, align 4, !alias.scope !15, !noalias !16
  ret i32 0
}

attributes #0 = { nounwind alignstack=64 }
attributes #1 = { noinline nounwind alignstack=64 }
attributes #2 = { nofree norecurse nosync nounwind willreturn memory(none) }
attributes #3 = { nounwind }
attributes #4 = { alwaysinline nofree norecurse nosync nounwind willreturn memory(none) }
attributes #5 = { noinline nofree norecurse nosync nounwind willreturn memory(none) }

!0 = !{!"branch_weights", i32 1, i32 1048576}
!1 = !{!"llvm.loop.mustprogress"}
!2 = !{i32 1}
!3 = distinct !{!3}
!4 = distinct !{!4, !3}
!5 = distinct !{!5, !3}
!6 = distinct !{!6, !3}
!7 = !{!4}
!8 = !{!5}
!9 = !{!4}
!10 = distinct !{!10, !1}
!11 = distinct !{!11, !1}
!12 = distinct !{!12, !1}
!13 = distinct !{!13, !1}
!14 = !{i64 4}
!15 = !{!6}
!16 = !{!4, !5}
